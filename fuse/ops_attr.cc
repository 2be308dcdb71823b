#include <algorithm>
#include <atomic>
#include <vector>

#include "fuse/limits.h"
#include "fuse/operations.h"

// Attributes: stat, statx with birth time, chmod, chown, truncate, utimens; a symlink's target.
namespace voldfs::fuse {
namespace {

struct Field {
  int fuse;       // FUSE_SET_ATTR_*
  uint32_t wire;  // wire::kSet*
};
constexpr Field kFields[] = {
    {FUSE_SET_ATTR_MODE, wire::kSetMode},
    {FUSE_SET_ATTR_UID, wire::kSetUid},
    {FUSE_SET_ATTR_GID, wire::kSetGid},
    {FUSE_SET_ATTR_SIZE, wire::kSetSize},
    {FUSE_SET_ATTR_ATIME, wire::kSetAtime},
    {FUSE_SET_ATTR_MTIME, wire::kSetMtime},
    {FUSE_SET_ATTR_ATIME_NOW, wire::kSetAtimeNow},
    {FUSE_SET_ATTR_MTIME_NOW, wire::kSetMtimeNow},
    {FUSE_SET_ATTR_CTIME, wire::kSetCtime},
    {protocol::kSetattrKillPrivileges, wire::kKillPrivileges},
};

uint32_t wire_valid(int valid) {
  uint32_t out = 0;
  for (const Field& field : kFields)
    if (valid & field.fuse) out |= field.wire;
  // The kernel names a time and "now" together.
  if (out & wire::kSetAtimeNow) out &= ~wire::kSetAtime;
  if (out & wire::kSetMtimeNow) out &= ~wire::kSetMtime;
  return out;
}

wire::Attr wire_attr(const struct stat& in) {
  wire::Attr out{};
  out.mode = in.st_mode;
  out.uid = in.st_uid;
  out.gid = in.st_gid;
  out.size = static_cast<uint64_t>(in.st_size);
  out.atime = in.st_atim.tv_sec, out.atime_ns = static_cast<uint32_t>(in.st_atim.tv_nsec);
  out.mtime = in.st_mtim.tv_sec, out.mtime_ns = static_cast<uint32_t>(in.st_mtim.tv_nsec);
  out.ctime = in.st_ctim.tv_sec, out.ctime_ns = static_cast<uint32_t>(in.st_ctim.tv_nsec);
  return out;
}

// Of a file that changes without a word to anybody no page is good beyond the call that has read it. The kernel asks for attributes at each
// read (the only one to ask with an open file) while it may not keep them, and drops its pages if they tell of another time of modification: so
// they do. Who looks at the time asks without an open file, and is told the truth. A notification would not do: it makes the kernel
// discard the answer that it is waiting for (fs/fuse/inode.c, attr_version).
void make_pages_old(wire::Attr& attr) {
  constexpr uint32_t kStep = 1'000, kSecond = 1'000'000'000;
  static std::atomic<uint32_t> turn = 0;
  attr.mtime_ns = (attr.mtime_ns + 1 + turn.fetch_add(1, std::memory_order_relaxed) % kStep) % kSecond;
}

bool is_through_daemon(const FileHandle* handle) { return handle && handle->backing.mode() == BackingFiles::Mode::kDaemon; }

bool is_in_group(const Request& request, uint32_t group) {
  if (request.caller().gid == group) return true;
  std::vector<gid_t> groups(kGroupsMax);
  const int count = fuse_req_getgroups(request.handle(), static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<size_t>(std::clamp(count, 0, kGroupsMax)));
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

// What a chown(2) does to set-id bits (fs/attr.c, setattr_should_drop_sgid) where FUSE says nothing of it and the brick does not come
// to the same by itself: it does not know the caller's groups, and changes owners with the rights of root.
// A change of nothing (fs/fuse/dir.c drops the flags that are not sent) is a chown of neither owner nor group; or the set-id bits
// are to go before another's write, which takes them away itself.
Result<void> as_chown(Request& request, const dht::NodePtr& node, wire::Attr& attr, uint32_t& valid) {
  constexpr uint32_t kOwners = wire::kSetUid | wire::kSetGid;
  const bool of_nothing = valid == 0;
  if (!of_nothing && !(valid & kOwners)) return {};
  if (of_nothing) attr.uid = attr.gid = UINT32_MAX, valid = kOwners;  // chown(2)'s own "leave it"
  const dht::Caller caller = request.caller();
  if (caller.uid == 0 || node->is_directory()) return {};
  const auto now = request.volume().getattr(node, nullptr, caller);
  if (!now) return fail(now.error());
  if (of_nothing && caller.uid != now->attr.uid) valid = 0;
  const uint32_t mode = now->attr.mode;
  const bool is_for_members = (mode & S_ISGID) && !(mode & S_IXGRP);
  if (valid == 0 || !is_for_members || is_in_group(request, now->attr.gid)) return {};
  attr.mode = mode & ~static_cast<uint32_t>(S_ISUID | S_ISGID);
  valid |= wire::kSetMode;
  return {};
}

}  // namespace

Result<void> getattr(Request& request, fuse_ino_t ino, fuse_file_info* info) {
  const dht::NodePtr node = request.node(ino);
  const dht::Caller caller = request.caller();
  if (!info) {
    if (const auto fresh = request.mount().fresh_creates.take(caller.pid, *node)) {
      dht::Entry made;
      made.node = node, made.attr = *fresh;
      return request.reply_attr(made);
    }
  }
  auto found = request.volume().getattr(node, open_file(info), caller);
  if (!found) return fail(found.error());
  if (found->pinned && is_through_daemon(file_handle(info))) make_pages_old(found->attr);
  return request.reply_attr(*found);
}

Result<void> setattr(Request& request, fuse_ino_t ino, struct stat* attr, int valid, fuse_file_info* info) {
  const dht::NodePtr node = request.node_to_change(ino);
  // The kernel cuts its own pages, so they stay what the file is; but the file's times change.
  if (valid & FUSE_SET_ATTR_SIZE) static_cast<void>(node->exchange_data_stamp({}));
  wire::Attr wanted = wire_attr(*attr);
  uint32_t fields = wire_valid(valid);
  if (auto known = as_chown(request, node, wanted, fields); !known) return known;
  const auto changed = request.volume().setattr(node, open_file(info), wanted, fields, request.caller());
  if (!changed) return fail(changed.error());
  return request.reply_attr(*changed);
}

Result<void> readlink(Request& request, fuse_ino_t ino) {
  const auto target = request.volume().readlink(request.node(ino), request.caller());
  if (!target) return fail(target.error());
  return request.reply_readlink(*target);
}

Result<dht::Entry> statx(Mount& mount, const protocol::InHeader& header, const protocol::StatxIn& in) {
  dht::NodePtr node = mount.root;
  if (header.nodeid != FUSE_ROOT_ID) node = reinterpret_cast<dht::Node*>(header.nodeid)->shared_from_this();
  dht::OpenFilePtr file;
  if ((in.getattr_flags & protocol::kGetattrHandle) && !node->is_directory())
    file = reinterpret_cast<FileHandle*>(in.handle)->file;
  dht::Caller caller;
  caller.uid = header.uid, caller.gid = header.gid, caller.pid = header.pid;
  return mount.volume->getattr(node, file, caller);
}

protocol::StatxOut to_statx(const dht::Entry& entry, double valid_s) {
  const wire::Attr& attr = entry.attr;
  protocol::StatxOut out{};
  out.attr_valid = static_cast<uint64_t>(valid_s);
  out.attr_valid_nsec = static_cast<uint32_t>((valid_s - static_cast<double>(out.attr_valid)) * 1e9);
  out.stat.mask = STATX_BASIC_STATS | (attr.btime || attr.btime_ns ? STATX_BTIME : 0);
  out.stat.blksize = attr.blksize;
  out.stat.nlink = attr.nlink;
  out.stat.uid = attr.uid, out.stat.gid = attr.gid;
  out.stat.mode = static_cast<uint16_t>(attr.mode);
  out.stat.ino = dht::inode_number(entry.node->id());
  out.stat.size = attr.size, out.stat.blocks = attr.blocks;
  out.stat.atime = {attr.atime, attr.atime_ns, 0};
  out.stat.btime = {attr.btime, attr.btime_ns, 0};
  out.stat.ctime = {attr.ctime, attr.ctime_ns, 0};
  out.stat.mtime = {attr.mtime, attr.mtime_ns, 0};
  out.stat.rdev_major = static_cast<uint32_t>(attr.rdev >> 32), out.stat.rdev_minor = static_cast<uint32_t>(attr.rdev);
  return out;
}

}  // namespace voldfs::fuse
