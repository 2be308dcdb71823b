#include <sys/sysmacros.h>

#include "fuse/operations.h"

// Names: looking up, making, removing, renaming.
namespace voldfs::fuse {
namespace {

// A device number as statx(2) says it: what the wire carries.
uint64_t wire_device(dev_t device) { return uint64_t{major(device)} << 32 | minor(device); }

Result<void> reply_made(Request& request, const Result<dht::Entry>& made) {
  if (!made) return fail(made.error());
  return request.reply_entry(*made);
}

}  // namespace

Result<void> lookup(Request& request, fuse_ino_t parent, const char* name) {
  const dht::NodePtr dir = request.node(parent);
  dht::Grant missing;
  const auto found = request.volume().lookup(dir, name, request.caller(), &missing);
  if (found) return request.reply_entry(*found);
  if (found.error().code == ENOENT) return request.reply_negative(dir, missing);
  return fail(found.error());
}

Result<void> forget(Request& request, fuse_ino_t ino, uint64_t count) {
  if (ino != FUSE_ROOT_ID) request.volume().nodes().forget(reinterpret_cast<dht::Node*>(ino), count);
  return request.reply_none();
}

Result<void> forget_multi(Request& request, size_t count, fuse_forget_data* forgets) {
  for (const fuse_forget_data& each : std::span(forgets, count))
    if (each.ino != FUSE_ROOT_ID)
      request.volume().nodes().forget(reinterpret_cast<dht::Node*>(each.ino), each.nlookup);
  return request.reply_none();
}

Result<void> mknod(Request& request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  return reply_made(request, request.volume().mknod(request.node_to_change(parent), name, mode, wire_device(device), request.caller()));
}

Result<void> mkdir(Request& request, fuse_ino_t parent, const char* name, mode_t mode) {
  return reply_made(request, request.volume().mkdir(request.node_to_change(parent), name, mode, request.caller()));
}

Result<void> symlink(Request& request, const char* target, fuse_ino_t parent, const char* name) {
  return reply_made(request, request.volume().symlink(request.node_to_change(parent), name, target, request.caller()));
}

Result<void> unlink(Request& request, fuse_ino_t parent, const char* name) {
  const dht::NodePtr dir = request.node_to_change(parent);
  request.mount().kept_opens->end_name(*dir, name);
  if (const auto done = request.volume().unlink(dir, name, request.caller()); !done) return done;
  return request.reply_ok();
}

Result<void> rmdir(Request& request, fuse_ino_t parent, const char* name) {
  if (const auto done = request.volume().rmdir(request.node_to_change(parent), name, request.caller()); !done) return done;
  return request.reply_ok();
}

Result<void> rename(Request& request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name, unsigned flags) {
  const dht::NodePtr from = request.node_to_change(parent), to = request.node_to_change(new_parent);
  request.mount().kept_opens->end_name(*to, new_name);
  const auto done = request.volume().rename(from, name, to, new_name, flags, request.caller());
  if (!done) return done;
  return request.reply_ok();
}

Result<void> link(Request& request, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  return reply_made(request, request.volume().link(request.node(ino), request.node_to_change(new_parent), new_name, request.caller()));
}

}  // namespace voldfs::fuse
