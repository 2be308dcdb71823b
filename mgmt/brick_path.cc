#include "mgmt/brick_path.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace voldfs::mgmt {

namespace fs = std::filesystem;

Explained<BrickSpec> parse_brick(std::string_view text) {
  const size_t colon = text.find(":/");
  if (colon == std::string_view::npos || colon == 0)
    return explain("\"" + std::string(text) + "\" is no brick: a brick is HOST:/PATH, as in server1:/data/brick1.");
  BrickSpec spec{std::string(text.substr(0, colon)), fs::path(text.substr(colon + 1)).lexically_normal().string()};
  while (spec.path.size() > 1 && spec.path.ends_with('/')) spec.path.pop_back();
  if (spec.path.starts_with("//")) spec.path.erase(0, 1);
  if (spec.path == "/") return explain("The root directory cannot be a brick.");
  return spec;
}

Explained<void> check_brick_path(const std::string& path, bool force) {
  const auto refuse = [&](const std::string& why) { return explain("Brick " + path + ": " + why); };
  struct stat brick{}, parent{}, root{};
  const fs::path above = fs::path(path).parent_path();
  if (::stat(above.c_str(), &parent) != 0)
    return refuse("the directory above it, " + above.string() + ", does not exist. Make it, or mount the disk that should be there.");
  if (!S_ISDIR(parent.st_mode)) return refuse(above.string() + " is no directory.");
  const bool there = ::stat(path.c_str(), &brick) == 0;
  if (there && !S_ISDIR(brick.st_mode)) return refuse("it is no directory.");
  // A brick that is being served, or was: its files belong to a volume.
  for (fs::path at = path;; at = at.parent_path()) {
    struct stat dot{};
    if (::lstat((at / ".voldfs").c_str(), &dot) == 0) {
      return at == fs::path(path) ? refuse("it is already part of a volume (it has a .voldfs). If that volume is gone for good, remove " + path + "/.voldfs.")
                                  : refuse("it lies in the brick " + at.string() + ".");
    }
    if (!at.has_relative_path()) break;
  }
  if (::stat("/", &root) == 0 && (there ? brick : parent).st_dev == root.st_dev && !force)
    return refuse("it is on the root file system, which a full brick would fill. Use another disk, or say `force`.");
  if (there && brick.st_dev != parent.st_dev && !force)
    return refuse("it is a mount point itself; an unmounted disk would look like an empty brick. Use a directory in it, or say `force`.");
  struct statvfs space{};
  if (::statvfs(there ? path.c_str() : above.c_str(), &space) != 0) return refuse(std::string("its file system cannot be asked: ") + std::strerror(errno) + ".");
  if (space.f_flag & ST_RDONLY) return refuse("its file system is read-only.");
  if (space.f_bavail == 0) return refuse("its file system is full.");
  return {};
}

}  // namespace voldfs::mgmt
