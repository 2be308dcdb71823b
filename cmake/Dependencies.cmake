# The libraries voldfs uses; tools/install-deps installs them all.

# libfuse where the distribution's own is too old: built by tools/install-deps into a prefix, static.
set(VOLDFS_DEPS_PREFIX /opt/voldfs-deps CACHE PATH "Prefix of the libraries that tools/install-deps builds")
if(EXISTS ${VOLDFS_DEPS_PREFIX})
  list(PREPEND CMAKE_PREFIX_PATH ${VOLDFS_DEPS_PREFIX})
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(gflags REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(SYSTEMD REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(FUSE3 IMPORTED_TARGET fuse3>=3.17)
if(NOT FUSE3_FOUND)
  message(FATAL_ERROR "libfuse 3.17 or newer was not found: run tools/install-deps.")
endif()

find_path(TL_EXPECTED_INCLUDE_DIR tl/expected.hpp REQUIRED)

if(VOLDFS_TESTS)
  find_package(GTest REQUIRED)
endif()
