# Tests of engine/trust/.
find_package(ZLIB) # for the cases' archives; a GPU machine may have none
if(NOT ZLIB_FOUND AND NOT MEDFUSION_ENGINE_ONLY)
  message(FATAL_ERROR "the tests of engine/trust/ need zlib")
endif()
foreach(file aci adapt adapt_site adapter calibrate conformal conformal_peers drift quality sharpness trust trust_files)
  medfusion_test(engine test_${file} mf_engine)
endforeach()
if(ZLIB_FOUND)
  foreach(file coverage exclusive fixture_shift trust_cases)
    medfusion_test(engine test_${file} mf_engine ZLIB::ZLIB)
  endforeach()
endif()
