#include "brick/store/store_init.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "brick/base/unique_fd.h"
#include "brick/store/credentials.h"
#include "brick/store/directories.h"
#include "brick/store/handle.h"
#include "brick/store/identity.h"
#include "brick/store/map_document.h"
#include "brick/store/record.h"
#include "brick/store/small_file.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"

namespace voldfs::store {
namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr size_t kKeySize = 32;

// The names in a directory, "." and ".." aside.
Result<std::vector<std::string>> names_in(int dir) {
  const int own = openat(dir, ".", kOpenDirectory);
  if (own < 0) return fail_errno();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own), closedir);
  if (!stream) return fail_errno();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return fail_errno();
  return names;
}

// Whether somebody put something here before it became a brick. mkfs makes lost+found.
bool holds_files(int root) {
  auto names = names_in(root);
  if (!names) return true;
  for (const std::string& name : *names) {
    if (name == ".voldfs") continue;
    if (name != "lost+found") return true;
    unique_fd lost(openat(root, name.c_str(), kOpenDirectory));
    if (!lost || has_files(lost.get())) return true;
  }
  return false;
}

uint16_t next_ordinal(const MapDocument& map, uint16_t after) {
  for (const auto& brick : map.bricks) {
    if (brick.ordinal > after) return brick.ordinal;
  }
  const uint16_t first = map.bricks.front().ordinal;
  return first == after ? uint16_t{0} : first;
}

// The root is on every brick of the volume: home on one, backup on the next, member on all.
wire::DirRecord root_record(const MapDocument& map, uint16_t ordinal, bool adopted) {
  wire::DirRecord record{};
  record.id = record.parent = kRootId;
  record.epoch = adopted ? 0 : map.epoch;
  record.home = map.root_home;
  record.backup = next_ordinal(map, map.root_home);
  record.change = 1;
  record.role = wire::kRoleMember;
  if (ordinal == record.home) record.role |= wire::kRoleHome;
  if (ordinal == record.backup) record.role |= wire::kRoleBackup;
  for (const auto& brick : map.bricks) record.set.add(brick.ordinal);
  if (adopted && ordinal != record.home) record.role |= wire::kRoleFound;  // home is to hear of it
  return record;
}

std::string sentence(const std::string& path, const char* what, int error) {
  if (error == EROFS) {
    return "The brick " + path + " is on a read-only file system: mount it writable (mount -o remount,rw).";
  }
  return "The brick " + path + " cannot be made: " + what + ": " + std::strerror(error) + ".";
}

Result<void> write_root(int root, int dot, const MapDocument& map, const Identity& identity) {
  auto id = get_id(root);
  const bool was_brick = id && *id == kRootId;
  if (!was_brick || !read_xattr(root, kXattrDir)) {
    const auto record = root_record(map, identity.ordinal, holds_files(root));
    if (auto set = set_xattr(root, kXattrDir, encode_directory(record)); !set) return set;
    if (auto set = set_id(root, kRootId); !set) return set;
  }
  const std::array<uint8_t, 16> no_key{};
  const Handles handles(root, no_key);
  Directories directories(root, dot, handles, {identity.volume, identity.ordinal, 16});
  // `.voldfs` was lost: what is in the tree is known by its attributes.
  return was_brick ? directories.rebuild_index() : directories.index_root();
}

Explained<void> write_all(int root, int dot, const StoreOptions& options, const MapDocument& map, const Identity& identity) {
  if (auto able = check_abilities(dot, options.path, options.min_free_percent); !able) return able;
  std::string key(kKeySize, '\0');
  if (getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
    return explain("The kernel's random source does not answer.");
  }
  auto secret = read_small_file(AT_FDCWD, (options.map_file + ".secret").c_str());
  if (!secret) {
    return explain("The volume's secret " + options.map_file + ".secret cannot be read: " +
                   std::strerror(secret.error().code) + ".");
  }
  struct File {
    const char* name;
    std::string_view content;
  };
  const File files[] = {{"key", key}, {"secret", *secret}, {"map.json", map.text}};
  for (const File& file : files) {
    auto written = write_small_file(dot, file.name, file.content, 0600);
    if (!written) return explain(sentence(options.path, file.name, written.error().code));
  }
  if (auto done = write_root(root, dot, map, identity); !done) {
    return explain(sentence(options.path, "attributes of its root", done.error().code));
  }
  // Last: only now it is a brick.
  if (auto done = write_identity(dot, identity); !done) {
    return explain(sentence(options.path, "brick.json", done.error().code));
  }
  return {};
}

const MapDocument::Brick* own_brick(const MapDocument& map, const StoreOptions& options) {
  if (!options.brick.is_none()) return map.brick(options.brick);
  if (const auto* brick = map.brick_at(options.path)) return brick;
  std::error_code error;
  const auto real = std::filesystem::canonical(options.path, error);
  return error ? nullptr : map.brick_at(real.string());
}

}  // namespace

Result<void> empty_folder(int dir) {
  auto names = names_in(dir);
  if (!names) return fail(names.error());
  for (const std::string& name : *names) {
    if (unlinkat(dir, name.c_str(), 0) == 0) continue;
    if (errno != EISDIR) return fail_errno();
    unique_fd below(openat(dir, name.c_str(), kOpenDirectory));
    if (!below) return fail_errno();
    if (auto emptied = empty_folder(below.get()); !emptied) return emptied;
    if (unlinkat(dir, name.c_str(), AT_REMOVEDIR) != 0) return fail_errno();
  }
  return {};
}

bool has_files(int dir) {
  if (dir < 0) return false;
  auto names = names_in(dir);
  return names && !names->empty();
}

Explained<void> Store::init(const StoreOptions& options) {
  RootScope scope;
  unique_fd root(::open(options.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root && errno == ENOENT) {
    return explain("The directory " + options.path + " does not exist: make it, or correct --path.");
  }
  if (!root) return explain(sentence(options.path, "open", errno));
  if (options.map_file.empty()) return explain("A brick is made from a volume map: give --map=FILE.");
  auto text = read_small_file(AT_FDCWD, options.map_file.c_str());
  if (!text) {
    return explain("The volume map " + options.map_file + " cannot be read: " + std::strerror(text.error().code) + ".");
  }
  auto map = MapDocument::parse(*text);
  if (!map) return explain(map.error());
  const auto* brick = own_brick(*map, options);
  if (!brick) {
    return explain("The volume map " + options.map_file + " has no brick at " + options.path +
                   ": correct --path or --map, or say which one it is.");
  }
  if (mkdirat(root.get(), ".voldfs", 0700) != 0 && errno != EEXIST) {
    if (is_full(Error::from_errno())) return explain("The file system of the brick " + options.path + " is full: free some space.");
    return explain(sentence(options.path, ".voldfs", errno));
  }
  unique_fd dot(openat(root.get(), ".voldfs", kOpenDirectory));
  if (!dot) return explain(sentence(options.path, ".voldfs", errno));
  auto have = read_identity(dot.get(), options.path);
  if (!have) return explain(have.error());
  if (*have && (*have)->brick == brick->id && (*have)->volume == map->volume) return {};
  if (*have) {
    return explain("The directory " + options.path + " is the brick " + (*have)->brick.uuid() + " of the volume " +
                   (*have)->volume.uuid() + " already: remove its .voldfs directory if that is not wanted any more.");
  }
  return write_all(root.get(), dot.get(), options, *map,
                   {map->volume, brick->id, brick->ordinal, file_system_of(root.get())});
}

}  // namespace voldfs::store
