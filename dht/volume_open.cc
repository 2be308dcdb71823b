#include <fcntl.h>

#include "dht/file_call.h"
#include "dht/lock_waits.h"

// Opening and closing files that are there.
namespace voldfs::dht {
Result<OpenFilePtr> Volume::open(const NodePtr& node, uint32_t flags, const Caller& caller) {
  if (node->is_directory()) return fail(EISDIR);
  wire::OpenBody body{};
  body.flags = flags;
  uint16_t brick = 0;
  const auto make = [&body](const wire::ObjectRef& object) {
    body.object = object;
    return wire::Request(wire::Op::kOpen, body);
  };
  auto reply = impl_->call_object(node, make, caller, nullptr, {}, &brick);
  // What was opened in a session that has ended has ended with it. What was truncated is not to be truncated again.
  for (int tries = 0; tries < kRetriesMax && !reply && reply.error().code == wire::kUnsettled && !(flags & O_TRUNC); ++tries)
    reply = impl_->call_object(node, make, caller, nullptr, {}, &brick);
  if (!reply) return fail(reply.error());
  const auto entry = reply->body<wire::EntryBody>();
  if (!entry) return fail(entry.error());
  if (reply->descriptor) impl_->opened_for_mapping(brick, *reply, node->id(), flags);
  const Grant grant = attr_grant_of(*reply, entry->attr);
  auto file = OpenFile::make(*impl_, node, brick, *entry, grant, flags, caller, std::move(reply->descriptor));
  file->durability().note(reply->header.verifier, false);
  return file;
}

// Of a file that can be mapped for writing the kernel may keep no attributes, for nobody tells it of a store. The brick grants none from
// here on; what it granted before is given up as if it asked for it.
void Volume::Impl::opened_for_mapping(uint16_t ordinal, const wire::Reply& reply, const Id& file, uint32_t flags) {
  if ((flags & O_ACCMODE) == O_RDWR) take_back(ordinal, {file, reply.header.object_sequence, wire::kRecallAttr, 0});
}

// Locks that are left are of the open itself (F_OFD_SETLK): the kernel does not tell when they end.
void Volume::drop_locks_of_open(const OpenFilePtr& file, const Caller& caller) { lock_waits(*impl_).drop_open(*file, caller); }

void Volume::release(const OpenFilePtr& file, const Caller& caller) {
  drop_locks_of_open(file, caller);
  file->close();
  impl_->releases.add(file->brick(), file->number());
}

bool Volume::Impl::tell_released(uint16_t ordinal, const std::vector<uint32_t>& opens) {
  Caller nobody;
  nobody.only_if_up = true;
  const wire::Request request(wire::Op::kRelease, wire::OpenRef{opens.front(), 0, 0}, {}, {}, std::as_bytes(std::span(opens).subspan(1)));
  // What the brick does not know has ended with an earlier session.
  const auto told = call(ordinal, request, nobody);
  return told || told.error().code != EHOSTDOWN;
}

Result<void> Volume::flush(const OpenFilePtr& file) { return file->take_loss(); }

}  // namespace voldfs::dht
