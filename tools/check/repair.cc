#include "tools/check/repair.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "brick/store/xattr.h"
#include "tools/check/check_brick.h"
#include "tools/check/check_volume.h"

namespace voldfs::check {

namespace {

Result<void> write_index(const BrickScan& scan, const IndexEntry& entry) {
  const int dot = scan.dot.get();
  const std::string hex = entry.id.hex(), bucket = "index/" + hex.substr(0, 2), path = bucket + "/" + hex;
  if (entry.expected.empty()) {
    if (::unlinkat(dot, path.c_str(), 0) < 0 && errno != ENOENT) return fail_errno();
    return {};
  }
  if (::mkdirat(dot, "index", 0700) < 0 && errno != EEXIST) return fail_errno();
  if (::mkdirat(dot, bucket.c_str(), 0700) < 0 && errno != EEXIST) return fail_errno();
  const std::string fresh = "tmp/index-" + hex;
  if (::unlinkat(dot, fresh.c_str(), 0) < 0 && errno != ENOENT) return fail_errno();
  if (::symlinkat(entry.expected.c_str(), dot, fresh.c_str()) < 0) return fail_errno();
  if (::renameat(dot, fresh.c_str(), dot, path.c_str()) < 0) return fail_errno();
  return {};
}

Result<void> write_counter(const BrickScan& scan, const ScannedDirectory& directory, uint32_t count) {
  wire::DirRecord record = *directory.record;
  record.subdirectories = count;
  const std::string path = "." + directory.path();
  unique_fd fd(::openat(scan.root.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno();
  return store::set_xattr(fd.get(), store::kXattrDir, store::encode_directory(record));
}

void mark(Findings& findings, const BrickScan& scan, const char* kind) {
  for (Finding& finding : findings) {
    if (finding.brick == scan.path && finding.kind == kind) finding.repaired = true;
  }
}

void complain(Findings& findings, const BrickScan& scan, const std::string& where, Error error) {
  findings.push_back({Severity::kError, "repair", scan.path, where,
                      std::string("could not be repaired: ") + std::strerror(error.code), false});
}

}  // namespace

void repair(const std::vector<std::unique_ptr<BrickScan>>& scans, const dht::VolumeMap& map, Findings& findings) {
  for (const auto& scan : scans) {
    mark(findings, *scan, "index");
    for (const IndexEntry& entry : compare_index(*scan)) {
      if (auto done = write_index(*scan, entry); !done) complain(findings, *scan, "/.voldfs/index", done.error());
    }
    mark(findings, *scan, "subdirectories");
    for (const auto& directory : scan->directories) {
      if (!directory->record) continue;
      const uint32_t count = count_subdirectories(*scan, *directory, map);
      if (count == directory->record->subdirectories) continue;
      if (auto done = write_counter(*scan, *directory, count); !done) {
        complain(findings, *scan, directory->path(), done.error());
      }
    }
  }
}

}  // namespace voldfs::check
