#include "fuse/mount_status.h"

#include <nlohmann/json.hpp>

#include "dht/volume.h"
#include "fuse/mount.h"

namespace voldfs::fuse {
namespace {

// enum fuse_opcode of the kernel's include/uapi/linux/fuse.h.
constexpr const char* kNames[] = {
    nullptr,       "lookup",      "forget",    "getattr",   "setattr",    "readlink",     "symlink",         nullptr,       "mknod",
    "mkdir",       "unlink",      "rmdir",     "rename",    "link",       "open",         "read",            "write",       "statfs",
    "release",     nullptr,       "fsync",     "setxattr",  "getxattr",   "listxattr",    "removexattr",     "flush",       "init",
    "opendir",     "readdir",     "releasedir", "fsyncdir", "getlk",      "setlk",        "setlkw",          "access",      "create",
    "interrupt",   "bmap",        "destroy",   "ioctl",     "poll",       "notify_reply", "batch_forget",    "fallocate",   "readdirplus",
    "rename2",     "lseek",       "copy_file_range", "setupmapping", "removemapping", "syncfs", "tmpfile",   "statx",
};

}  // namespace

std::string status_document(const Mount& mount) {
  nlohmann::json out;
  out["requests"] = nlohmann::json::object();
  for (uint32_t i = 0; i < std::size(kNames); ++i)
    if (const uint64_t count = mount.requests.get(i); kNames[i] && count != 0) out["requests"][kNames[i]] = count;
  out["over_io_uring"] = mount.over_io_uring;
  out["passthrough"] = {{"on", mount.backings != nullptr && mount.backings->is_on()}};
  if (mount.backings) {
    const BackingFiles::Counters counters = mount.backings->counters();
    out["passthrough"].update({{"opens", counters.opens}, {"refused", counters.refused}, {"files", counters.backing_ids}});
  }
  out["bricks"] = nlohmann::json::array();
  for (const dht::BrickUse& brick : mount.volume->brick_use())
    out["bricks"].push_back({{"ordinal", brick.ordinal}, {"up", brick.up}, {"round_trips", brick.round_trips}});
  return out.dump();
}

}  // namespace voldfs::fuse
