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
  const auto reply = impl_->call_object(
      node,
      [&body](const wire::ObjectRef& object) {
        body.object = object;
        return wire::Request(wire::Op::kOpen, body);
      },
      caller, nullptr, {}, &brick);
  if (!reply) return fail(reply.error());
  const auto entry = reply->body<wire::EntryBody>();
  if (!entry) return fail(entry.error());
  auto file = OpenFile::make(*impl_, node, brick, *entry, flags, caller);
  file->durability().note(reply->header.verifier, false);
  return file;
}

// Locks that are left are of the open itself (F_OFD_SETLK): the kernel does not tell when they end.
void Volume::release(const OpenFilePtr& file, const Caller& caller) {
  lock_waits(*impl_).drop_open(*file, caller);
  file->close();
  const wire::OpenRef ref{file->number(), 0, caller.lock_owner};
  // The brick forgets the open with the session if it cannot be told.
  static_cast<void>(impl_->call(file->brick(), wire::Request(wire::Op::kRelease, ref), caller));
}

Result<void> Volume::flush(const OpenFilePtr& file) { return file->take_loss(); }

}  // namespace voldfs::dht
