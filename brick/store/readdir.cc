#include "brick/store/readdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "brick/store/attr.h"
#include "brick/store/handle.h"
#include "brick/store/named_copy.h"
#include "brick/store/names_entry.h"
#include "brick/store/record.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"

namespace voldfs::store {
namespace {

constexpr uint64_t kPositionMax = (uint64_t{1} << 53) - 1;
constexpr size_t kKernelPage = 32 * 1024;  // bytes asked of getdents64 at once
constexpr unsigned kHashShift = 10;        // ext4: 63 bits

// What getdents64(2) fills in; no header has it.
struct KernelEntry {
  uint64_t inode;
  int64_t next;
  uint16_t size;
  uint8_t type;
  char name[];
};

uint64_t to_wire(int64_t position, unsigned shift) {
  return std::min(static_cast<uint64_t>(position) >> shift, kPositionMax);
}

// The entries of a directory from a position on, one at a time.
class Stream {
 public:
  Stream(int dir, uint64_t position, unsigned shift, int more_flags)
      : fd_(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | more_flags)) {
    if (!fd_) {
      error_ = errno;
    } else if (position != 0 && lseek(fd_.get(), static_cast<off_t>(position << shift), SEEK_SET) < 0) {
      error_ = errno;
    }
  }

  // The next entry, good until the next call; null at the end.
  Result<const KernelEntry*> next() {
    if (error_ != 0) return fail(error_);
    if (offset_ == filled_) {
      const long size = syscall(SYS_getdents64, fd_.get(), buffer_.data(), buffer_.size());
      if (size < 0) return fail_errno();
      if (size == 0) return nullptr;
      filled_ = static_cast<size_t>(size);
      offset_ = 0;
    }
    const auto* entry = reinterpret_cast<const KernelEntry*>(buffer_.data() + offset_);
    offset_ += entry->size;
    return entry;
  }

 private:
  unique_fd fd_;
  int error_ = 0;
  size_t offset_ = 0, filled_ = 0;
  alignas(8) std::array<char, kKernelPage> buffer_;
};

bool is_hidden(const Directory& dir, std::string_view name) {
  return name == "." || name == ".." || (dir.is_root() && name == ".voldfs");
}

struct Listed {
  wire::DirentHeader header{};
  wire::Attr attr{};
  wire::Handle handle{};
};

// A directory is listed by its home and by its backup, which stands in for it; and by what its name leads to. None: not.
Result<std::optional<wire::EntryKind>> listed_directory(const Directory& dir, const char* name) {
  using Kind = std::optional<wire::EntryKind>;
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir.fd(), name, kXattrDir, value);
  if (!size && size.error().code == ENODATA) return Kind(wire::EntryKind::kObject);  // not adopted yet: a lookup will
  if (!size) return fail(size.error());
  auto record = decode_directory(std::span(value).first(*size), Id{});
  if (!record) return fail(record.error());
  if (record->role & wire::kRoleHome) return Kind(wire::EntryKind::kObject);
  auto home = read_named_copy_at(dir.fd(), name, dir.id());
  if (!home) return fail(home.error());
  if (*home) return Kind(wire::EntryKind::kStub);
  return record->role & wire::kRoleBackup ? Kind(wire::EntryKind::kObject) : Kind();
}

// What is known of an entry; nothing if it is gone meanwhile or not to be listed. No lock: an entry that is
// being made has no id yet, and the client looks it up before it shows it.
Result<std::optional<Listed>> describe(Store& store, const Directory& dir, const char* name, bool with_attr) {
  Listed listed;
  auto attr = get_attr_at(dir.fd(), name);
  if (!attr && attr.error().code == ENOENT) return std::optional<Listed>();
  if (!attr) return fail(attr.error());
  listed.attr = *attr;
  listed.header.kind = wire::EntryKind::kObject;
  listed.header.type = type_of_mode(attr->mode);
  if (listed.header.type == wire::ObjectType::kDirectory) {
    auto shown = listed_directory(dir, name);
    if (!shown && shown.error().code != ENOENT) return fail(shown.error());
    if (!shown || !*shown) return std::optional<Listed>();
    listed.header.kind = **shown;
  }
  if (looks_like_stub(*attr)) {
    auto link = read_link_at(dir.fd(), name);
    if (!link && link.error().code == ENOENT) return std::optional<Listed>();
    if (!link) return fail(link.error());
    if (*link) {
      listed.header.kind = wire::EntryKind::kStub;
      listed.header.type = (*link)->type;
      listed.header.id = (*link)->object;
    }
  }
  if (listed.header.id.is_none()) {
    auto id = get_id_at(dir.fd(), name);
    if (!id && id.error().code == ENOENT) return std::optional<Listed>();
    if (id) listed.header.id = *id;
    else if (id.error().code != ENODATA) return fail(id.error());
  }
  auto kinds = xattr_kinds_at(dir.fd(), name);
  if (!kinds && kinds.error().code == ENOENT) return std::optional<Listed>();
  if (!kinds) return fail(kinds.error());
  note_xattrs(*kinds, listed.attr);
  if (kinds->leaving) {
    auto leaving = read_leaving_at(dir.fd(), name, dir.id());
    if (!leaving && leaving.error().code != ENOENT) return fail(leaving.error());
    listed.header.leaving = leaving && leaving->has_value();
  }
  const bool describes_object = listed.header.kind == wire::EntryKind::kObject && !listed.header.id.is_none();
  if (with_attr && describes_object) {
    auto handle = store.handles().make_at(dir.fd(), name, listed.header.id, listed.header.type);
    if (handle) {
      listed.handle = *handle;
      listed.header.with_attr = 1;
    } else if (handle.error().code != ENOENT) {
      return fail(handle.error());
    }
  }
  return listed;
}

size_t record_size(const Listed& listed, size_t name_size) {
  const size_t extra = listed.header.with_attr ? sizeof listed.attr + sizeof listed.handle : 0;
  return (sizeof listed.header + extra + name_size + 7) / 8 * 8;
}

void put_record(std::byte* at, const Listed& listed, std::string_view name, size_t size) {
  std::memset(at, 0, size);
  std::memcpy(at, &listed.header, sizeof listed.header);
  at += sizeof listed.header;
  if (listed.header.with_attr) {
    std::memcpy(at, &listed.attr, sizeof listed.attr);
    std::memcpy(at + sizeof listed.attr, &listed.handle, sizeof listed.handle);
    at += sizeof listed.attr + sizeof listed.handle;
  }
  std::memcpy(at, name.data(), name.size());
}

// Fills the page; remembers the last place at which it may end.
class PageBuilder {
 public:
  PageBuilder(std::span<std::byte> into, uint64_t position) : into_(into) { page_.reply.position = position; }

  // False: no room, the page ends at the last place that was good.
  bool add(Listed& listed, std::string_view name, uint64_t position) {
    const size_t size = record_size(listed, name.size());
    if (size > into_.size() - used_) return false;
    listed.header.position = position;
    listed.header.size = static_cast<uint16_t>(size);
    listed.header.name_size = static_cast<uint16_t>(name.size());
    put_record(into_.data() + used_, listed, name, size);
    used_ += size;
    ++count_;
    return true;
  }
  // Everything so far may stand, and a next page begins at `position`.
  void may_end_at(uint64_t position) {
    page_.reply.position = position;
    page_.reply.count = count_;
    page_.size = used_;
  }
  Page end() {
    page_.reply.end = 1;
    return page_;
  }
  const Page& page() const { return page_; }

 private:
  std::span<std::byte> into_;
  size_t used_ = 0;
  uint32_t count_ = 0;
  Page page_;
};

}  // namespace

Result<Page> read_page(Store& store, const Directory& dir, const PageRequest& request, std::span<std::byte> into) {
  if (request.position > kPositionMax) return fail(EINVAL);
  const unsigned shift = store.position_shift();
  Stream stream(dir.fd(), request.position, shift, request.keep_atime ? O_NOATIME : 0);
  PageBuilder builder(into.first(std::min(into.size(), request.size_max)), request.position);
  uint64_t own = request.position;  // where the entry in hand lies; its `next` is where the following one does
  while (true) {
    auto entry = stream.next();
    if (!entry) return fail(entry.error());
    if (!*entry) {
      builder.may_end_at(own);
      return builder.end();
    }
    const uint64_t next = to_wire((*entry)->next, shift);
    if (!is_hidden(dir, (*entry)->name)) {
      auto listed = describe(store, dir, (*entry)->name, request.with_attr);
      if (!listed) return fail(listed.error());
      if (*listed && !builder.add(**listed, (*entry)->name, next)) {
        if (builder.page().size == 0) return fail(EINVAL);
        return builder.page();
      }
    }
    // Of two names with one position neither can be skipped alone: the page goes on.
    if (next != own) builder.may_end_at(next);
    own = next;
  }
}

// The last entry's next is "the end", which file systems give as they like: it is not looked at.
Result<unsigned> find_position_shift(int dot) {
  Stream stream(dot, 0, 0, 0);
  uint64_t largest = 0, last = 0;
  while (true) {
    auto entry = stream.next();
    if (!entry) return fail(entry.error());
    if (!*entry) break;
    largest = std::max(largest, last);
    last = static_cast<uint64_t>((*entry)->next);
  }
  if (largest <= kPositionMax) return 0u;
  if (largest >> kHashShift <= kPositionMax) return kHashShift;
  return fail(EOVERFLOW);
}

}  // namespace voldfs::store
