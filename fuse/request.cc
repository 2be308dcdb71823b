#include "fuse/request.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <utility>

namespace voldfs::fuse {

Request::Request(fuse_req_t request) : request_(request), mount_(*static_cast<Mount*>(fuse_req_userdata(request))) {
  mount_.interrupts.begin(unique_, interrupted_);
}

Request::~Request() {
  if (request_) static_cast<void>(reply_error(Error(EIO)));
}

fuse_req_t Request::finish() {
  mount_.interrupts.end(unique_);
  return std::exchange(request_, nullptr);
}

void Request::release(FileHandle& handle, const dht::Caller& who) {
  handle.backing.reset();
  volume().release(handle.file, who);
}

fuse_req_t Request::park(uint64_t ticket, bool& interrupted) {
  interrupted = !mount_.interrupts.park(unique_, ticket, caller().pid);
  return std::exchange(request_, nullptr);
}

dht::NodePtr Request::node(fuse_ino_t number) const {
  if (number == FUSE_ROOT_ID) return mount_.root;
  return reinterpret_cast<dht::Node*>(number)->shared_from_this();
}

dht::NodePtr Request::node_to_change(fuse_ino_t number) {
  dht::NodePtr node = this->node(number);
  if (node->is_directory()) (changing_[0] ? changing_[1] : changing_[0]).emplace(node);
  return node;
}

dht::Caller Request::caller() const {
  const fuse_ctx* const context = fuse_req_ctx(request_);
  dht::Caller caller;
  caller.uid = context->uid;
  caller.gid = context->gid;
  caller.pid = static_cast<uint32_t>(context->pid);
  caller.umask = context->umask;
  caller.interrupted = &interrupted_;
  caller.only_if_killed = true;
  return caller;
}

const void* Request::raw_argument() const { return raw + 1; }

fuse_entry_param Request::entry_param(const dht::Entry& entry) const {
  fuse_entry_param param{};
  param.ino = node_number(mount_, *entry.node);
  param.attr = to_stat(entry.node->id(), entry.attr);
  return param;
}

fuse_ino_t node_number(const Mount& mount, const dht::Node& node) {
  return &node == mount.root.get() ? FUSE_ROOT_ID : reinterpret_cast<fuse_ino_t>(&node);
}

Validity validity(const Mount& mount, const dht::Entry& entry, const dht::Grants::Delivery& delivery) {
  const MountBehaviour& fixed = mount.behaviour;
  const auto attr_s = [&] {
    if (entry.node->is_directory() && !entry.node->may_keep(entry.attr_grants)) return 0.0;
    if (dht::KernelPages* const pages = entry.node->kernel_pages(); pages && !pages->tell(delivery, entry.node->id(), entry.attr_grants)) return 0.0;
    return delivery.seconds(entry.node->id(), entry.attr_grants);
  };
  Validity valid{delivery.seconds(entry.directory, {&entry.name_grant, 1}), attr_s()};
  // A name that led to the inode makes the kernel trust the owner that it knows (fs/attr.c, setattr_prepare), also when the other
  // attributes are to be asked for again. A directory's are kept for less long than this mount would be told of changes.
  const double owner_s = entry.pinned ? delivery.seconds(entry.node->id(), {&entry.owner_grant, 1}) : valid.attr_s;
  if (!entry.node->is_directory()) valid.name_s = std::min(valid.name_s, owner_s);
  valid = {fixed.entry_timeout_s.value_or(valid.name_s), fixed.attribute_timeout_s.value_or(valid.attr_s)};
  entry.node->note_kept(valid.attr_s);
  return valid;
}

struct stat to_stat(const Id& id, const wire::Attr& attr) {
  struct stat out{};
  out.st_ino = dht::inode_number(id);
  out.st_mode = attr.mode;
  out.st_nlink = attr.nlink;
  out.st_uid = attr.uid;
  out.st_gid = attr.gid;
  out.st_rdev = makedev(static_cast<unsigned>(attr.rdev >> 32), static_cast<unsigned>(attr.rdev));
  out.st_size = static_cast<off_t>(attr.size);
  out.st_blksize = attr.blksize;
  out.st_blocks = static_cast<blkcnt_t>(attr.blocks);
  out.st_atim = {attr.atime, attr.atime_ns};
  out.st_mtim = {attr.mtime, attr.mtime_ns};
  out.st_ctim = {attr.ctime, attr.ctime_ns};
  return out;
}

}  // namespace voldfs::fuse
