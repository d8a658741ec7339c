"""Evaluation of bundles through `medfusion predict`: metrics, corruptions, report. Needs no PyTorch."""
