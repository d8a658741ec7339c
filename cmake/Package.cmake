# What is installed beside the program and its data, and the Debian package: cmake --build build/release --target package.
include(GNUInstallDirs)

set(MEDFUSION_COMMANDS serve worker predict calibrate bench model module dicom fhir key audit reload vault backup restore outbox)
foreach(command IN ITEMS "" ${MEDFUSION_COMMANDS})
  set(page medfusion-${command}.1)
  if(NOT command)
    set(page medfusion.1)
  endif()
  add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/${page}
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:medfusion> -DVERB=${command}
      -DOUTPUT=${PROJECT_BINARY_DIR}/man/${page} -DVERSION=${PROJECT_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake
    DEPENDS medfusion ${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake)
  add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/${page}.gz
    COMMAND gzip -9 -n -k -f ${PROJECT_BINARY_DIR}/man/${page} DEPENDS ${PROJECT_BINARY_DIR}/man/${page})
  list(APPEND pages ${PROJECT_BINARY_DIR}/man/${page}.gz)
endforeach()
set(page medfusion-config.5)
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/man/${page}.gz BYPRODUCTS ${PROJECT_BINARY_DIR}/man/${page}
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:medfusion> -DVERB=config
    -DOUTPUT=${PROJECT_BINARY_DIR}/man/${page} -DVERSION=${PROJECT_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake
  COMMAND gzip -9 -n -k -f ${PROJECT_BINARY_DIR}/man/${page}
  DEPENDS medfusion ${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake)
add_custom_target(man ALL DEPENDS ${pages} ${PROJECT_BINARY_DIR}/man/${page}.gz)
install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${PROJECT_BINARY_DIR}/man/${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)

install(FILES deploy/completion/medfusion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME medfusion)
install(FILES deploy/systemd/medfusion.service DESTINATION lib/systemd/system)
install(FILES deploy/systemd/config.json DESTINATION ${CMAKE_INSTALL_DATADIR}/medfusion) # postinst copies it to /etc/medfusion
install(FILES deploy/prometheus/medfusion.rules.yaml deploy/grafana/medfusion.json deploy/orthanc/medfusion.lua deploy/config.example.json
  DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The bill of materials, from what the programs load; where packages can be asked for.
find_package(Python3 COMPONENTS Interpreter)
find_program(MEDFUSION_DPKG_QUERY dpkg-query)
find_program(MEDFUSION_READELF readelf)
if(Python3_FOUND AND MEDFUSION_DPKG_QUERY AND MEDFUSION_READELF)
  set(sbom ${PROJECT_BINARY_DIR}/medfusion.cdx.json)
  add_custom_command(OUTPUT ${sbom}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/cmake/sbom.py ${sbom} ${PROJECT_VERSION} $<TARGET_FILE:medfusion>
      $<TARGET_FILE:medfusion-decoder> --model ${PROJECT_SOURCE_DIR}/models/thorax-nih
    DEPENDS medfusion medfusion-decoder cmake/sbom.py models/thorax-nih/manifest.json)
  add_custom_target(sbom ALL DEPENDS ${sbom})
  install(FILES ${sbom} DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The MedFusion developers <medfusion@localhost>")
configure_file(deploy/debian/changelog.in ${PROJECT_BINARY_DIR}/changelog @ONLY)
execute_process(COMMAND gzip -9 -n -k -f ${PROJECT_BINARY_DIR}/changelog COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${PROJECT_BINARY_DIR}/changelog.gz deploy/debian/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "inference service for DICOM studies and FHIR patient data")
set(CPACK_PACKAGE_DESCRIPTION
  "Takes DICOM studies and FHIR R4 patient data over REST, DICOMweb and DIMSE,\nruns a multimodal network on them and returns calibrated predictions with\nconformal sets. For research; not a medical device.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${PROJECT_SOURCE_DIR}/deploy/debian/postinst ${PROJECT_SOURCE_DIR}/deploy/debian/prerm
  ${PROJECT_SOURCE_DIR}/deploy/debian/postrm ${PROJECT_SOURCE_DIR}/deploy/debian/triggers)
include(CPack)
