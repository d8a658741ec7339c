# The trust layer's part of mf_engine.
set(trust_sources
  trust/aci.c trust/adapt.c trust/adapt_cases.c trust/adapt_load.c trust/adapt_site.c trust/adapt_state.c trust/adapter.c
  trust/calibrate.c trust/conformal.c trust/drift.c trust/exclusive.c trust/ood.c trust/quality.c trust/raps.c trust/seal.c trust/sharpness.c trust/strata.c trust/weighted.c
  trust/trust.c trust/trust_fit.c trust/trust_io.c trust/trust_write.c)
