#include "brick/store/xattr.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>

namespace voldfs::store {

namespace {

// System calls of kernel 6.13, the same numbers on every machine; struct of include/uapi/linux/xattr.h.
constexpr long kSetxattrat = 463, kGetxattrat = 464, kListxattrat = 465, kRemovexattrat = 466;
struct XattrArgs {
  uint64_t value;
  uint32_t size;
  uint32_t flags;
};
static_assert(sizeof(XattrArgs) == 16);

// Limits of Linux (include/uapi/linux/limits.h).
constexpr size_t kValueMax = 65536, kListMax = 65536;

std::atomic<bool> has_xattrat = true;  // until a kernel says ENOSYS

// "/proc/self/fd/N" or "/proc/self/fd/N/ENTRY": a magic link leads to the object itself, also from an O_PATH
// descriptor; with an entry the l*xattr calls follow no further.
class ProcPath {
 public:
  explicit ProcPath(int fd, const char* entry = nullptr) {
    if (entry) {
      std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d/%s", fd, entry);
    } else {
      std::snprintf(text_.data(), text_.size(), "/proc/self/fd/%d", fd);
    }
  }
  const char* c_str() const { return text_.data(); }

 private:
  std::array<char, 32 + 256> text_;
};

// One of the *xattrat calls, or `otherwise` where the kernel has none of them.
template <class Fallback, class... Args>
ssize_t xattrat_or(Fallback otherwise, long number, Args... args) {
  if (has_xattrat.load(std::memory_order_relaxed)) {
    const ssize_t done = ::syscall(number, args...);
    if (done >= 0 || errno != ENOSYS) return done;
    has_xattrat.store(false, std::memory_order_relaxed);
  }
  return otherwise();
}

Result<size_t> size_or_errno(ssize_t done) {
  if (done < 0) return fail_errno();
  return static_cast<size_t>(done);
}

Result<void> done_or_errno(ssize_t done) {
  if (done < 0) return fail_errno();
  return {};
}

// A value or list of unknown size. `get(span)` is asked with a guess, then with the size it tells; the attribute
// may grow in between, so again, but not for ever.
template <class Out, class Get>
Result<Out> read_whole(size_t size_max, Get get) {
  constexpr int kTries = 4;
  Out out(256, {});
  for (int i = 0; i < kTries; ++i) {
    Result<size_t> size = get(std::span<std::byte>(reinterpret_cast<std::byte*>(out.data()), out.size()));
    if (size) {
      out.resize(*size);
      return out;
    }
    if (size.error().code != ERANGE) return fail(size.error());
    size = get(std::span<std::byte>());
    if (!size) return fail(size.error());
    out.resize(std::min(*size + 256, size_max));
  }
  return fail(EAGAIN);
}

Result<size_t> list_into(int fd, std::span<std::byte> out) {
  char* const data = reinterpret_cast<char*>(out.data());
  ssize_t done = ::flistxattr(fd, data, out.size());
  if (done < 0 && errno == EBADF) done = ::listxattr(ProcPath(fd).c_str(), data, out.size());
  return size_or_errno(done);
}

Result<size_t> list_into_at(int dir, const char* entry, std::span<std::byte> out) {
  char* const data = reinterpret_cast<char*>(out.data());
  return size_or_errno(xattrat_or(
      [&] { return ::llistxattr(ProcPath(dir, entry).c_str(), data, out.size()); }, kListxattrat, dir, entry,
      AT_SYMLINK_NOFOLLOW, data, out.size()));
}

// A list that is longer than the names that are usual holds others.
template <class List>
Result<XattrKinds> kinds_in(List list) {
  std::array<std::byte, 128> names;
  const Result<size_t> size = list(std::span(names));
  if (!size) return size.error().code == ERANGE ? Result<XattrKinds>(XattrKinds{}) : fail(size.error());
  XattrKinds kinds{false, false};
  for (size_t at = 0; at < *size;) {
    const std::string_view name(reinterpret_cast<const char*>(names.data()) + at);
    at += name.size() + 1;
    kinds.leaving |= name == kXattrLeaving;
    kinds.others |= !is_internal_xattr(name);
  }
  return kinds;
}

Result<Id> to_id(Result<size_t> size, const Id& id) {
  if (!size) return size.error().code == ERANGE ? fail(EUCLEAN) : fail(size.error());
  if (*size != sizeof id.bytes) return fail(EUCLEAN);
  return id;
}

}  // namespace

Result<size_t> get_xattr(int fd, const char* name, std::span<std::byte> value) {
  ssize_t done = ::fgetxattr(fd, name, value.data(), value.size());
  if (done < 0 && errno == EBADF) done = ::getxattr(ProcPath(fd).c_str(), name, value.data(), value.size());
  return size_or_errno(done);
}

Result<size_t> get_xattr_at(int dir, const char* entry, const char* name, std::span<std::byte> value) {
  const XattrArgs args{reinterpret_cast<uint64_t>(value.data()), static_cast<uint32_t>(value.size()), 0};
  return size_or_errno(xattrat_or(
      [&] { return ::lgetxattr(ProcPath(dir, entry).c_str(), name, value.data(), value.size()); }, kGetxattrat, dir,
      entry, AT_SYMLINK_NOFOLLOW, name, &args, sizeof args));
}

Result<std::vector<std::byte>> read_xattr(int fd, const char* name) {
  return read_whole<std::vector<std::byte>>(kValueMax,
                                            [&](std::span<std::byte> out) { return get_xattr(fd, name, out); });
}

Result<std::vector<std::byte>> read_xattr_at(int dir, const char* entry, const char* name) {
  return read_whole<std::vector<std::byte>>(
      kValueMax, [&](std::span<std::byte> out) { return get_xattr_at(dir, entry, name, out); });
}

Result<void> set_xattr(int fd, const char* name, std::span<const std::byte> value, int flags) {
  int done = ::fsetxattr(fd, name, value.data(), value.size(), flags);
  if (done < 0 && errno == EBADF) {
    done = ::setxattr(ProcPath(fd).c_str(), name, value.data(), value.size(), flags);
  }
  return done_or_errno(done);
}

Result<void> set_xattr_at(int dir, const char* entry, const char* name, std::span<const std::byte> value,
                          int flags) {
  const XattrArgs args{reinterpret_cast<uint64_t>(value.data()), static_cast<uint32_t>(value.size()),
                       static_cast<uint32_t>(flags)};
  return done_or_errno(xattrat_or(
      [&] { return ::lsetxattr(ProcPath(dir, entry).c_str(), name, value.data(), value.size(), flags); },
      kSetxattrat, dir, entry, AT_SYMLINK_NOFOLLOW, name, &args, sizeof args));
}

Result<void> remove_xattr(int fd, const char* name) {
  int done = ::fremovexattr(fd, name);
  if (done < 0 && errno == EBADF) done = ::removexattr(ProcPath(fd).c_str(), name);
  return done_or_errno(done);
}

Result<void> remove_xattr_at(int dir, const char* entry, const char* name) {
  return done_or_errno(xattrat_or([&] { return ::lremovexattr(ProcPath(dir, entry).c_str(), name); },
                                  kRemovexattrat, dir, entry, AT_SYMLINK_NOFOLLOW, name));
}

Result<std::string> list_xattrs(int fd) {
  return read_whole<std::string>(kListMax, [&](std::span<std::byte> out) { return list_into(fd, out); });
}

Result<std::string> list_xattrs_at(int dir, const char* entry) {
  return read_whole<std::string>(kListMax,
                                 [&](std::span<std::byte> out) { return list_into_at(dir, entry, out); });
}

Result<XattrKinds> xattr_kinds(int fd) {
  return kinds_in([&](std::span<std::byte> out) { return list_into(fd, out); });
}

Result<XattrKinds> xattr_kinds_at(int dir, const char* entry) {
  return kinds_in([&](std::span<std::byte> out) { return list_into_at(dir, entry, out); });
}

void note_xattrs(const XattrKinds& kinds, wire::Attr& attr) {
  if (!kinds.others && !S_ISDIR(attr.mode)) attr.flags |= wire::kAttrNoXattrs;
}

Result<Id> get_id(int fd) {
  Id id;
  return to_id(get_xattr(fd, kXattrId, std::as_writable_bytes(std::span(id.bytes))), id);
}

Result<Id> get_id_at(int dir, const char* entry) {
  Id id;
  return to_id(get_xattr_at(dir, entry, kXattrId, std::as_writable_bytes(std::span(id.bytes))), id);
}

Result<void> set_id(int fd, const Id& id) { return set_xattr(fd, kXattrId, std::as_bytes(std::span(id.bytes))); }

Result<void> set_id_at(int dir, const char* entry, const Id& id) {
  return set_xattr_at(dir, entry, kXattrId, std::as_bytes(std::span(id.bytes)));
}

bool is_internal_xattr(std::string_view name) { return name.starts_with("trusted.voldfs."); }

namespace {

// What belongs to the file and not to the host it lies on, as a label of the local security module does.
bool is_exported(std::string_view name) {
  if (is_internal_xattr(name)) return false;
  return name.starts_with("user.") || name.starts_with("trusted.") || name == "security.capability" ||
         name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

template <class Each>
Result<void> for_each_exported(int fd, Each each) {
  auto names = list_xattrs(fd);
  if (!names) return fail(names.error());
  for (size_t at = 0; at < names->size();) {
    const char* const name = names->c_str() + at;
    const size_t size = std::char_traits<char>::length(name);
    at += size + 1;
    if (!is_exported({name, size})) continue;
    if (auto done = each(name); !done) return done;
  }
  return {};
}

}  // namespace

Result<std::vector<std::byte>> export_xattrs(int fd) {
  std::vector<std::byte> list;
  auto done = for_each_exported(fd, [&](const char* name) -> Result<void> {
    auto value = read_xattr(fd, name);
    if (!value) return value.error().code == ENODATA ? Result<void>() : fail(value.error());  // removed meanwhile
    wire::append_xattr(list, name, *value);
    return list.size() > wire::kDataMax ? fail(E2BIG) : Result<void>();
  });
  if (!done) return fail(done.error());
  return list;
}

Result<void> replace_xattrs(int fd, std::span<const wire::XattrView> wanted) {
  auto removed = for_each_exported(fd, [&](const char* name) -> Result<void> {
    const bool keep = std::any_of(wanted.begin(), wanted.end(), [&](const auto& x) { return x.name == name; });
    if (keep) return {};
    auto done = remove_xattr(fd, name);
    return done || done.error().code == ENODATA ? Result<void>() : done;
  });
  if (!removed) return removed;
  for (const auto& attribute : wanted) {
    if (!is_exported(attribute.name)) return fail(EPERM);
    if (auto done = set_xattr(fd, std::string(attribute.name).c_str(), attribute.value); !done) return done;
  }
  return {};
}

}  // namespace voldfs::store
