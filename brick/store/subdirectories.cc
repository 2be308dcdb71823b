#include "brick/store/subdirectories.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>

#include "brick/store/attr.h"
#include "brick/store/named_copy.h"
#include "brick/store/names_entry.h"
#include "brick/store/record.h"
#include "brick/store/xattr.h"

namespace voldfs::store {
namespace {

// A directory's home counts, unless its name is a stub elsewhere, or is not brought together yet; a copy that stands in for its
// stub does (FORMAT.md).
Result<bool> is_name_of_directory(const Directory& dir, const char* name) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir.fd(), name, kXattrDir, value);
  if (!size && (size.error().code == ENODATA || size.error().code == ENOENT)) return false;
  if (!size) return fail(size.error());
  auto record = decode_directory(std::span(value).first(*size), Id{});
  if (!record) return fail(record.error());
  if (record->role & wire::kRoleHome) return !(record->role & (wire::kRoleOffHash | wire::kRoleFound));
  auto home = read_named_copy_at(dir.fd(), name, dir.id());
  if (!home) return fail(home.error());
  return home->has_value();
}

Result<bool> is_stub_of_directory(int dir, const char* name) {
  auto attr = get_attr_at(dir, name);
  if (!attr) return fail(attr.error());
  if (!looks_like_stub(*attr)) return false;
  auto link = read_link_at(dir, name);
  if (!link) return fail(link.error());
  return *link && (*link)->type == wire::ObjectType::kDirectory;
}

}  // namespace

Result<void> recount_subdirectories(Directory& dir) {
  const int own = openat(dir.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return fail_errno();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own), closedir);
  if (!stream) return fail_errno();
  uint32_t count = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || !check_known_name(dir, name)) continue;
    if (entry->d_type != DT_DIR && entry->d_type != DT_REG) continue;
    auto leads = entry->d_type == DT_DIR ? is_name_of_directory(dir, entry->d_name) : is_stub_of_directory(dir.fd(), entry->d_name);
    if (!leads) return fail(leads.error());
    count += *leads ? 1 : 0;
  }
  if (errno != 0) return fail_errno();
  auto updated = dir.update([&](wire::DirRecord& record) -> Result<void> {
    if (record.subdirectories != count)
      spdlog::info("subdirectories_counted dir={} were={} are={}", record.id.hex(), record.subdirectories, count);
    record.subdirectories = count;
    return {};
  });
  if (!updated) return fail(updated.error());
  return {};
}

}  // namespace voldfs::store
