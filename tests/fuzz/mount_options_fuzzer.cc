// What stands in fstab or behind `mount -o`, and what is to be mounted.

#include <string>

#include "fuse/mount_options.h"
#include "fuse/mount_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace voldfs;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const bool sloppy : {false, true}) {
    fuse::MountOptions options;
    const auto parsed = fuse::parse_mount_options(text, sloppy, options);
    if (!parsed && parsed.error().empty()) __builtin_trap();  // a refusal has a reason
  }
  const auto source = fuse::MountSource::parse(text);
  if (!source && source.error().empty()) __builtin_trap();
  if (source && source->map_file.empty() && (source->servers.empty() || source->volume.empty())) __builtin_trap();
  return 0;
}
