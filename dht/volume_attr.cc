#include <algorithm>

#include "dht/file_call.h"

// Attributes and inode flags of files and directories.
namespace voldfs::dht {
namespace {

// `make` gets 0 for home, home's counter for the others.
Result<wire::Reply> change_directory(Volume::Impl& volume, const NodePtr& dir,
                                     const std::function<wire::Request(uint64_t change)>& make, const Caller& caller) {
  auto reply = volume.call_object(dir, [&](const wire::ObjectRef&) { return make(0); }, caller);
  if (!reply) return reply;
  const auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  dir->update_record(body->dir);

  const wire::DirRecord record = dir->record();
  std::vector<uint16_t> others = volume.set_of(dir);
  if (record.backup != 0) others.push_back(record.backup);
  std::erase(others, record.home);
  if (others.empty()) return reply;
  const Caller quick = unless_down(caller);
  for (const Answer& answer : volume.ask(others, [&](uint16_t) { return make(body->dir.change); }, quick)) {
    // One that cannot be had now is brought up to date when it is asked for a name next.
    if (!answer.status && answer.status.error().code == wire::kDirBehind) static_cast<void>(volume.refresh(dir, answer.ordinal, quick));
  }
  return reply;
}

}  // namespace

Result<wire::Reply> change_object(Volume::Impl& volume, const NodePtr& node,
                                  const std::function<wire::Request(const wire::ObjectRef& object, uint64_t change)>& make,
                                  const Caller& caller, uint16_t* asked) {
  if (!node->is_directory())
    return volume.call_object(node, [&](const wire::ObjectRef& object) { return make(object, 0); }, caller, nullptr, {}, asked);
  wire::ObjectRef ref{};
  ref.id = node->id();
  *asked = node->record().home;
  return change_directory(volume, node, [&](uint64_t change) { return make(ref, change); }, caller);
}

namespace {

Entry removed_entry(const NodePtr& node, const wire::Attr& last) {
  Entry entry;
  entry.node = node;
  entry.attr = last;
  return entry;
}

// A descriptor of a directory that is no more: nobody else can see what is changed.
Entry change_removed(const NodePtr& node, wire::Attr last, const wire::Attr& attr, uint32_t valid) {
  if (valid & wire::kSetMode) last.mode = (last.mode & ~07777u) | (attr.mode & 07777u);
  if ((valid & wire::kSetUid) && attr.uid != UINT32_MAX) last.uid = attr.uid;
  if ((valid & wire::kSetGid) && attr.gid != UINT32_MAX) last.gid = attr.gid;
  node->set_removed(last);
  return removed_entry(node, last);
}

}  // namespace

Result<Entry> Volume::getattr(const NodePtr& node, const OpenFilePtr& file, const Caller& caller) {
  if (const auto last = node->removed()) return removed_entry(node, *last);
  if (node->is_directory()) return impl_->stat_directory(node, caller);
  if (file) {
    const auto reply = call_file(
        *impl_, file, false,
        [](const wire::ObjectRef& object, uint32_t open) {
          return wire::Request(wire::Op::kGetattr, wire::ObjectBody{object, open, 0});
        },
        caller);
    return entry_of_node(*impl_, node, reply, file->brick());
  }
  uint16_t brick = 0;
  const auto reply = impl_->call_object(
      node,
      [](const wire::ObjectRef& object) { return wire::Request(wire::Op::kGetattr, wire::ObjectBody{object, 0, 0}); }, caller,
      nullptr, {}, &brick);
  return entry_of_node(*impl_, node, reply, brick);
}

namespace {

// The kernel takes the attributes of an answer to SETATTR and LINK without asking whether it was told meanwhile to drop
// them (fs/fuse/dir.c: no attr_version there): they are not to be kept.
Result<Entry> not_to_be_kept(Result<Entry> entry) {
  if (entry) entry->attr_grants.clear();
  return entry;
}

}  // namespace

Result<Entry> Volume::setattr(const NodePtr& node, const OpenFilePtr& file, const wire::Attr& attr, uint32_t valid, const Caller& caller) {
  if (const auto last = node->removed()) return change_removed(node, *last, attr, valid);
  wire::SetattrBody body{};
  body.valid = valid;
  body.attr = attr;
  if (file) {
    const auto reply = call_file(
        *impl_, file, (valid & wire::kSetSize) != 0,
        [&body](const wire::ObjectRef& object, uint32_t open) {
          body.object = object, body.open = open;
          return wire::Request(wire::Op::kSetattr, body);
        },
        caller);
    return not_to_be_kept(entry_of_node(*impl_, node, reply, file->brick()));
  }
  uint16_t brick = 0;
  const auto reply = change_object(
      *impl_, node,
      [&body](const wire::ObjectRef& object, uint64_t change) {
        body.object = object, body.change = change;
        return wire::Request(wire::Op::kSetattr, body);
      },
      caller, &brick);
  if (reply && node->is_directory()) return not_to_be_kept(impl_->stat_directory(node, caller));
  return not_to_be_kept(entry_of_node(*impl_, node, reply, brick));
}

Result<std::string> Volume::readlink(const NodePtr& node, const Caller& caller) {
  const auto reply = impl_->call_object(
      node, [](const wire::ObjectRef& object) { return wire::Request(wire::Op::kReadlink, wire::ObjectBody{object, 0, 0}); }, caller);
  if (!reply) return fail(reply.error());
  return std::string(reinterpret_cast<const char*>(reply->data.data()), reply->data.size());
}

Result<uint32_t> Volume::get_flags(const NodePtr& node, const Caller& caller) {
  const auto reply = impl_->call_object(
      node, [](const wire::ObjectRef& object) { return wire::Request(wire::Op::kFlagsGet, wire::ObjectBody{object, 0, 0}); }, caller);
  if (!reply) return fail(reply.error());
  const auto flags = reply->body<wire::OffsetReply>();
  if (!flags) return fail(flags.error());
  return static_cast<uint32_t>(flags->offset);
}

Result<void> Volume::set_flags(const NodePtr& node, uint32_t flags, const Caller& caller) {
  wire::SetattrBody body{};
  body.attr_flags = flags;
  uint16_t brick = 0;
  const auto reply = change_object(
      *impl_, node,
      [&body](const wire::ObjectRef& object, uint64_t change) {
        body.object = object, body.change = change;
        return wire::Request(wire::Op::kFlagsSet, body);
      },
      caller, &brick);
  if (!reply) return fail(reply.error());
  return {};
}

namespace {

// Bricks that share a file system count once; its reserve is kept back from what users have.
class Sum {
 public:
  void add(const wire::StatfsReply& brick) {
    if (std::find(seen_.begin(), seen_.end(), brick.file_system) != seen_.end()) return;
    seen_.push_back(brick.file_system);
    if (brick.block_size == 0) return;
    if (sum_.block_size == 0) sum_.block_size = brick.block_size, sum_.name_max = brick.name_max;
    // In the first one's blocks.
    const auto scaled = [&](uint64_t blocks) { return static_cast<uint64_t>(static_cast<unsigned __int128>(blocks) * brick.block_size / sum_.block_size); };
    const auto less = [&](uint64_t blocks) { return blocks > brick.reserve_blocks ? blocks - brick.reserve_blocks : 0; };
    sum_.blocks += scaled(brick.blocks);
    sum_.blocks_free += scaled(brick.blocks_free);
    sum_.blocks_available += scaled(less(brick.blocks_available));
    sum_.files += brick.files;
    sum_.files_free += brick.files_free;
    sum_.name_max = std::min(sum_.name_max, brick.name_max);
  }
  const wire::StatfsReply& total() const { return sum_; }
  bool empty() const { return seen_.empty(); }

 private:
  std::vector<Id> seen_;
  wire::StatfsReply sum_{};
};

}  // namespace

// A brick that is down is left out rather than waited for: df(1) is asked when something is wrong.
Result<wire::StatfsReply> Volume::statfs(const Caller& caller) {
  impl_->releases.tell_all();  // files that were open when they were removed keep their blocks until then
  Caller quick = caller;
  quick.only_if_up = true;
  Sum sum;
  Error why{EIO};
  for (const Answer& answer : impl_->ask(impl_->all_ordinals(), [](uint16_t) { return wire::Request(wire::Op::kStatfs); }, quick)) {
    const auto body = answer.status ? answer.reply.body<wire::StatfsReply>() : fail(answer.status.error());
    if (body)
      sum.add(*body);
    else
      why = body.error();
  }
  if (sum.empty()) return fail(why.code == EHOSTDOWN ? Error(EIO) : why);
  return sum.total();
}

}  // namespace voldfs::dht
