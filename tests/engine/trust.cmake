# Tests of engine/trust/.
find_package(ZLIB REQUIRED)
foreach(file aci adapt adapt_site adapter calibrate conformal conformal_peers drift quality sharpness trust)
  medfusion_test(engine test_${file} mf_engine)
endforeach()
foreach(file coverage exclusive fixture_shift trust_cases)
  medfusion_test(engine test_${file} mf_engine ZLIB::ZLIB)
endforeach()
