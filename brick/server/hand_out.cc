#include "brick/server/hand_out.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>

#include "brick/store/open_files.h"
#include "brick/store/pins.h"

namespace voldfs::server {
namespace {

bool opens(wire::Op op) { return op == wire::Op::kOpen || op == wire::Op::kCreate || op == wire::Op::kTmpfile; }

bool is_writable(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

// A write has to take these away, which depends on who writes: such a file's writes all come here.
bool has_privileges(int fd, const wire::EntryBody& entry) {
  if (entry.attr.mode & (S_ISUID | S_ISGID)) return true;
  return ::fgetxattr(fd, "security.capability", nullptr, 0) >= 0;
}

}  // namespace

bool hand_out(ServerState& server, const std::shared_ptr<Session>& session, const wire::RequestView& request,
              wire::ReplyBuilder& reply) {
  if (!(request.header.flags & wire::kFlagTakesDescriptor) || !opens(request.op())) return false;
  if (reply.header.body_size != sizeof(wire::EntryBody)) return false;
  wire::EntryBody entry;
  std::memcpy(&entry, reply.body.data(), sizeof entry);
  auto file = server.store.open_files().find(session->id(), entry.open);
  if (!file || entry.type != wire::ObjectType::kFile) return false;
  const bool reclaimed = (request.header.flags & wire::kFlagReclaim) != 0;
  if (!reclaimed && has_privileges(file->fd.get(), entry)) return false;

  // Of its own: the open may end before the reply has left. Without room for it the client has an open without a descriptor.
  unique_fd copy(reclaimed ? -1 : ::fcntl(file->fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!reclaimed && !copy) return false;

  const bool writable = is_writable(file->flags);
  if (!file->handed_out.load()) {
    server.pins.add(entry.object, writable);
    file->handed_out.store(true);
  }
  if (server.store.open_files().find(session->id(), entry.open) != file) {  // the session has just ended
    take_back(server, std::move(file), false);
    return false;
  }
  if (writable) {
    const LeaseItem item{entry.object.id, kLeaseAttr};
    server.leases.changed(session->id(), {&item, 1});
  }
  if (reclaimed) return writable;
  server.metrics.descriptors.fetch_add(1, std::memory_order_relaxed);
  reply.header.flags |= wire::kFlagDescriptor;
  reply.descriptor = std::move(copy);
  return writable;
}

void take_back(ServerState& server, std::shared_ptr<store::OpenFile> closed, bool released) {
  if (!closed->handed_out.exchange(false)) return;
  const Id id = closed->id;
  const int flags = closed->flags;
  closed.reset();
  server.pins.remove(id, flags, released);
}

}  // namespace voldfs::server
