"""The paper's seven configurations as seven bundles of one engine (models/ablate)."""
