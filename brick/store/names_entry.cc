#include "brick/store/names_entry.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "brick/store/attr.h"
#include "brick/store/credentials.h"
#include "brick/store/handle.h"
#include "brick/store/named_copy.h"
#include "brick/store/open_files.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/message.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr char kOwnName[] = ".voldfs";
constexpr int kParkedNamesMax = 1000;  // of one object with as many hard links that are parked at once
constexpr size_t kFileNameMax = 255;

// A named copy, as the stub says it that would lie in its place.
wire::EntryBody stub_entry(const wire::EntryBody& copy, const Id& home) {
  wire::EntryBody entry{};
  entry.kind = wire::EntryKind::kStub;
  entry.type = wire::ObjectType::kDirectory;
  entry.object.id = copy.object.id;
  entry.leaving = copy.leaving;
  entry.link = copy.link;  // of the mark
  if (entry.leaving) return entry;
  entry.link.state = wire::LinkState::kCommitted;
  entry.link.type = wire::ObjectType::kDirectory;
  entry.link.brick = home;
  entry.link.object = copy.object.id;
  return entry;
}

Result<wire::EntryBody> directory_entry(Store& store, const Directory& dir, const std::string& name, wire::EntryBody entry) {
  auto id = get_id_at(dir.fd(), name.c_str());
  if (!id && id.error().code != ENODATA) return fail(id.error());
  auto directory = id ? store.directories().find(*id) : Result<DirectoryPtr>(fail(wire::kDirAbsent));
  if (!directory) directory = store.directories().take(dir.id(), dir.fd(), name);
  if (!directory) return fail(directory.error());
  entry.object.id = (*directory)->id();
  entry.dir = (*directory)->record();
  if (entry.dir.role & wire::kRoleHome) return entry;
  auto home = read_named_copy_at(dir.fd(), name.c_str(), dir.id());
  if (!home) return fail(home.error());
  if (*home) return stub_entry(entry, **home);
  return entry.dir.role == wire::kRoleSkeleton ? Result<wire::EntryBody>(fail(ENOENT)) : entry;
}

Result<Id> file_id(int dir, const char* name) {
  auto id = get_id_at(dir, name);
  if (id || id.error().code != ENODATA) return id;
  const Id fresh = Id::random_adopted();
  if (auto set = set_id_at(dir, name, fresh); !set) return fail(set.error());
  return fresh;
}

bool is_own_name(const Directory& dir, std::string_view name) { return dir.is_root() && name == kOwnName; }

}  // namespace

Result<void> check_new_name(const Directory& dir, std::string_view name) {
  if (is_own_name(dir, name)) return fail(EPERM);
  return wire::check_name(name);
}

Result<void> check_known_name(const Directory& dir, std::string_view name) {
  if (is_own_name(dir, name)) return fail(ENOENT);
  return wire::check_name(name);
}

bool looks_like_stub(const wire::Attr& attr) {
  return S_ISREG(attr.mode) && (attr.mode & 07777) == kStubMode && attr.size == 0;
}

Result<std::optional<wire::Link>> read_link_at(int dir, const char* name) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir, name, kXattrLink, value);
  if (!size && size.error().code == ENODATA) return std::optional<wire::Link>();
  if (!size) return fail(size.error());
  auto link = decode_link(std::span(value).first(*size));
  if (!link) return fail(link.error());
  return *link;
}

Result<std::optional<Leaving>> read_leaving_at(int dir, const char* name, const Id& dir_id) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir, name, kXattrLeaving, value);
  if (!size && size.error().code == ENODATA) return std::optional<Leaving>();
  if (!size) return fail(size.error());
  auto mark = decode_leaving(std::span(value).first(*size));
  if (!mark) return fail(mark.error());
  if (mark->parent != dir_id || mark->name != name) return std::optional<Leaving>();  // of another hard link
  return *mark;
}

namespace {

Result<bool> speaks_of(const Result<size_t>& size, std::span<const std::byte> value, const Directory& dir, const std::string& name) {
  if (!size && size.error().code == ENODATA) return false;
  if (!size) return fail(size.error());
  auto mark = decode_leaving(value.first(*size));
  if (!mark) return fail(mark.error());
  return mark->parent == dir.id() && mark->name == name;
}

}  // namespace

Result<void> drop_dead_mark(int object, const Directory& to, const std::string& name) {
  std::array<std::byte, kRecordMax> value;
  auto speaks = speaks_of(get_xattr(object, kXattrLeaving, value), value, to, name);
  if (!speaks) return fail(speaks.error());
  if (!*speaks) return {};
  RootScope scope;
  return remove_xattr(object, kXattrLeaving);
}

Result<void> drop_dead_mark(int dir, const std::string& entry, const Directory& to, const std::string& name) {
  std::array<std::byte, kRecordMax> value;
  auto speaks = speaks_of(get_xattr_at(dir, entry.c_str(), kXattrLeaving, value), value, to, name);
  if (!speaks) return fail(speaks.error());
  if (!*speaks) return {};
  RootScope scope;
  return remove_xattr_at(dir, entry.c_str(), kXattrLeaving);
}

Result<wire::EntryBody> read_entry(Store& store, const Directory& dir, const std::string& name) {
  wire::EntryBody entry{};
  auto attr = get_attr_at(dir.fd(), name.c_str());
  if (!attr) return fail(attr.error());
  entry.kind = wire::EntryKind::kObject;
  entry.type = type_of_mode(attr->mode);
  entry.attr = *attr;
  auto kinds = xattr_kinds_at(dir.fd(), name.c_str());
  if (!kinds) return fail(kinds.error());
  note_xattrs(*kinds, entry.attr);
  auto leaving = kinds->leaving ? read_leaving_at(dir.fd(), name.c_str(), dir.id()) : std::optional<Leaving>();
  if (!leaving) return fail(leaving.error());
  if (*leaving) {
    entry.leaving = 1;
    entry.link.txn = (*leaving)->txn;
    entry.link.brick = (*leaving)->authority;
  }
  if (entry.type == wire::ObjectType::kDirectory) return directory_entry(store, dir, name, entry);
  if (looks_like_stub(*attr)) {
    auto link = read_link_at(dir.fd(), name.c_str());
    if (!link) return fail(link.error());
    if (*link) {
      entry.kind = wire::EntryKind::kStub;
      entry.type = (*link)->type;
      entry.attr = {};
      entry.object = {(*link)->object, (*link)->handle};
      if (!entry.leaving) entry.link = **link;
      return entry;
    }
  }
  auto id = file_id(dir.fd(), name.c_str());
  if (!id) return fail(id.error());
  auto handle = store.handles().make_at(dir.fd(), name.c_str(), *id, entry.type);
  if (!handle) return fail(handle.error());
  entry.object = {*id, *handle};
  return entry;
}

bool is_mere_copy(const wire::EntryBody& entry) {
  const bool is_directory = entry.kind == wire::EntryKind::kObject && entry.type == wire::ObjectType::kDirectory;
  return is_directory && (!(entry.dir.role & wire::kRoleHome) || (entry.dir.role & wire::kRoleOffHash));
}

Result<void> check_entry(const wire::EntryBody& entry, const Id& expected) {
  if (entry.leaving) return fail(wire::kLeaving);
  if (!expected.is_none() && entry.object.id != expected) return fail(wire::kOtherId);
  return {};
}

KeepTimes::KeepTimes(int dir) : dir_(dir) {
  struct stat stat;
  known_ = dir >= 0 && fstat(dir, &stat) == 0;
  if (known_) mtime_ = stat.st_mtim;
}

KeepTimes::~KeepTimes() {
  if (!known_) return;
  const timespec times[2] = {{0, UTIME_OMIT}, mtime_};
  if (futimens(dir_, times) != 0) spdlog::warn("directory-times-changed errno={}", errno);
}

std::string parked_name(const wire::EntryBody& entry, const Id& dir, const std::string& name) {
  if (entry.kind == wire::EntryKind::kObject && !entry.object.id.is_none()) return entry.object.id.hex();
  return (dir.hex() + '.' + name).substr(0, kFileNameMax);
}

Result<void> park(Store& store, int dir, const std::string& name, const std::string& parked_name) {
  for (int i = 0; i < kParkedNamesMax; ++i) {
    std::string target = parked_name;
    if (i > 0) {
      const std::string suffix = "~" + std::to_string(i);
      target = target.substr(0, kFileNameMax - suffix.size()) + suffix;
    }
    if (renameat2(dir, name.c_str(), store.parked(), target.c_str(), RENAME_NOREPLACE) == 0) {
      spdlog::info("parked name={} as={}", name, target);
      return {};
    }
    if (errno != EEXIST) return fail_errno();
  }
  return fail(EEXIST);
}

}  // namespace voldfs::store
