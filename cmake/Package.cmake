# What `cmake --install` puts beside the programs, and the Debian package:
#   cmake --preset package && cmake --build --preset package
configure_file(tools/systemd/voldbrick@.service.in ${CMAKE_BINARY_DIR}/voldbrick@.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/voldbrick@.service DESTINATION lib/systemd/system)
install(FILES tools/systemd/voldfs.tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME voldfs.conf)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
if(EXISTS ${CMAKE_SOURCE_DIR}/README.md)
  install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
file(GLOB manuals_8 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tools/man/*.8)
if(manuals_8)
  install(FILES ${manuals_8} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME voldfs)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "distributed file system without a metadata server")
set(CPACK_PACKAGE_DESCRIPTION "Joins the disks of a few servers (bricks) into one file system.
Files stay plain files on the bricks. This package holds the brick server, the
FUSE client with its mount helper, and the tools of the administrator.")
set(CPACK_PACKAGE_CONTACT "The voldfs authors <voldfs@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS fuse3)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS systemd)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${CMAKE_SOURCE_DIR}/tools/packaging/postinst ${CMAKE_SOURCE_DIR}/tools/packaging/prerm)
include(CPack)
