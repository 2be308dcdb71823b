#include "brick/store/identity.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "brick/base/unique_fd.h"
#include "brick/store/handle.h"
#include "brick/store/small_file.h"
#include "brick/store/xattr.h"

namespace voldfs::store {
namespace {

using nlohmann::json;

constexpr char kFileName[] = "brick.json";
constexpr uint32_t kFormat = 1;
constexpr uint64_t kReadOnlyKnown = 0, kIncompatKnown = 0;  // features; none is defined yet

// FS_IOC_GETFSUUID of linux/fs.h, since 6.9; Debian 12's headers do not have it.
struct FileSystemUuid {
  uint8_t size;
  uint8_t uuid[16];
};
constexpr unsigned long kGetFileSystemUuid = _IOR(0x15, 0, FileSystemUuid);

std::string hex_of(const void* data, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<const unsigned char*>(data)[i];
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Explained<Identity> identity_of(const json& file, const std::string& path) {
  if (file.value("format", 0u) != kFormat || (file.value("incompat", uint64_t{0}) & ~kIncompatKnown) != 0) {
    return explain("The brick " + path + " has a newer format than this program knows: install a newer voldfs.");
  }
  if ((file.value("ro_compat", uint64_t{0}) & ~kReadOnlyKnown) != 0) {
    return explain("The brick " + path + " may only be read by this program: install a newer voldfs.");
  }
  Identity identity;
  auto volume = Id::parse(file.at("volume").get<std::string>());
  auto brick = Id::parse(file.at("brick").get<std::string>());
  if (!volume || !brick) throw std::invalid_argument("an id is damaged");
  identity.volume = *volume, identity.brick = *brick;
  identity.ordinal = file.at("ordinal").get<uint16_t>();
  identity.file_system = file.value("file_system", "");
  return identity;
}

std::string failed(const std::string& path, const char* what, int error) {
  if (error == EROFS) {
    return "The brick " + path + " is on a read-only file system: mount it writable (mount -o remount,rw).";
  }
  if (is_full(Error(error))) {
    return "The file system of the brick " + path + " is full: free some space, or put the brick elsewhere.";
  }
  return "The brick " + path + ": " + what + ": " + std::strerror(error) + ".";
}

}  // namespace

Explained<std::optional<Identity>> read_identity(int dot, const std::string& path) {
  auto text = read_small_file(dot, kFileName);
  if (!text && text.error().code == ENOENT) return std::optional<Identity>();
  if (!text) return explain(failed(path, "brick.json cannot be read", text.error().code));
  try {
    auto identity = identity_of(json::parse(*text), path);
    if (!identity) return explain(identity.error());
    return *identity;
  } catch (const std::exception& error) {
    return explain("The file " + path + "/.voldfs/brick.json is damaged (" + error.what() +
                   "): restore it, or start once with --init after removing it.");
  }
}

Result<void> write_identity(int dot, const Identity& identity) {
  const json file = {{"format", kFormat},
                     {"compat", 0},
                     {"ro_compat", 0},
                     {"incompat", 0},
                     {"volume", identity.volume.uuid()},
                     {"brick", identity.brick.uuid()},
                     {"ordinal", identity.ordinal},
                     {"file_system", identity.file_system},
                     {"created", static_cast<int64_t>(time(nullptr))}};
  return write_small_file(dot, kFileName, file.dump(2) + "\n", 0600);
}

std::string file_system_of(int fd) {
  FileSystemUuid uuid{};
  if (ioctl(fd, kGetFileSystemUuid, &uuid) == 0 && uuid.size == sizeof uuid.uuid) {
    return "uuid:" + hex_of(uuid.uuid, sizeof uuid.uuid);
  }
  struct statfs stat;
  if (fstatfs(fd, &stat) != 0) return "";
  return "fsid:" + hex_of(&stat.f_fsid, sizeof stat.f_fsid);
}

Explained<void> check_abilities(int dot, const std::string& path, std::optional<uint32_t> min_free_percent) {
  struct statvfs stat;
  if (fstatvfs(dot, &stat) != 0) return explain(failed(path, "statvfs", errno));
  if (stat.f_flag & ST_RDONLY) return explain(failed(path, "", EROFS));
  const bool blocks_full = stat.f_bavail <= stat.f_blocks / 100 * min_free_percent.value_or(0);
  const bool inodes_full = stat.f_files > 0 && stat.f_favail <= stat.f_files / 100 * min_free_percent.value_or(0);
  if (stat.f_blocks > 0 && (blocks_full || inodes_full)) return min_free_percent ? explain(failed(path, "", ENOSPC)) : Explained<void>();

  constexpr char kProbe[] = "probe";
  unique_fd probe(openat(dot, kProbe, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  const auto may_be_full = [&](Error error) { return !min_free_percent && is_full(error); };
  if (!probe && may_be_full(Error::from_errno())) return {};
  if (!probe) return explain(failed(path, "a file cannot be made in .voldfs", errno));
  Explained<void> result;
  const Id value = Id::random();
  if (auto set = set_id(probe.get(), value); !set && !may_be_full(set.error())) {
    result = explain("The file system of the brick " + path + " keeps no extended attributes trusted.* (" +
                     std::strerror(set.error().code) + "): use ext4, xfs or btrfs, and run as root.");
  } else {
    const std::array<uint8_t, 16> no_key{};
    const Handles handles(dot, no_key);
    auto text = handles.index_text(probe.get());
    auto again = text ? handles.open_index_text(*text, O_RDONLY) : Result<unique_fd>(fail(text.error()));
    if (!again) {
      result = explain("The file system of the brick " + path + " has no file handles (" +
                       std::strerror(again.error().code) +
                       "): use ext4, xfs or btrfs, and run as root with CAP_DAC_READ_SEARCH.");
    }
  }
  unlinkat(dot, kProbe, 0);
  return result;
}

}  // namespace voldfs::store
