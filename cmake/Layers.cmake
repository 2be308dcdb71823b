# A library a layer and an executable a main file. Sources are found by name, so that a new file needs no
# change here; what does not exist yet is left out.

# voldfs_layer(NAME LIBRARIES...): the library NAME of the folder's .cc files, *_main.cc aside, with the layers
# and libraries it may use. A folder without any is a library of headers.
# DIRECTORY: the folder, if it is not the calling one.
function(voldfs_layer name)
  cmake_parse_arguments(arg "" "DIRECTORY" "" ${ARGN})
  set(directory ${CMAKE_CURRENT_SOURCE_DIR}/${arg_DIRECTORY})
  file(GLOB sources CONFIGURE_DEPENDS ${directory}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_main\\.cc$")
  if(sources)
    add_library(${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} ${scope} ${arg_UNPARSED_ARGUMENTS})
endfunction()

# voldfs_executable(NAME MAIN LIBRARIES...): the program NAME, if its main file is there.
# DESTINATION: where it is installed, if not in sbin.
function(voldfs_executable name main)
  cmake_parse_arguments(arg "" "DESTINATION" "" ${ARGN})
  if(NOT arg_DESTINATION)
    set(arg_DESTINATION ${CMAKE_INSTALL_SBINDIR})
  endif()
  file(GLOB source CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${main})
  if(NOT source)
    return()
  endif()
  add_executable(${name} ${source})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  target_link_libraries(${name} PRIVATE ${arg_UNPARSED_ARGUMENTS})
  set_property(GLOBAL APPEND PROPERTY VOLDFS_EXECUTABLES ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${arg_DESTINATION})
endfunction()
