#include "brick/server/ops_name.h"

#include <sys/stat.h>

#include <algorithm>

#include "brick/server/ops_object.h"
#include "brick/store/name_lock.h"
#include "brick/store/names_remove.h"
#include "brick/store/names_rename.h"
#include "brick/store/readdir.h"
#include "brick/store/store.h"

namespace voldfs::server {
namespace {

void copy_name(std::string_view name, char (&into)[256], uint16_t& size) {
  size = static_cast<uint16_t>(std::min(name.size(), sizeof into - 1));
  std::copy_n(name.data(), size, into);
}

}  // namespace

Result<store::DirectoryPtr> enter(Call& call, const wire::DirRef& ref, bool reading) {
  auto dir = call.store.directories().find(ref.id);
  if (!dir) return dir;
  auto admitted = (*dir)->admit(ref, reading);
  if (admitted) return dir;
  const auto record = (*dir)->record();
  call.reply.set_body(wire::DirBody{{record.id, record.change, record.epoch, 0}});
  return fail(admitted.error());
}

tl::unexpected<Error> refuse(Call& call, Error error, const wire::EntryBody& met) {
  const bool explained = error.code == wire::kStub || error.code == wire::kOtherId || error.code == wire::kLeaving ||
                         error.code == wire::kMoved || error.code == EEXIST;
  if (explained && met.kind != wire::EntryKind{}) call.reply.set_body(met);
  return fail(error);
}

store::ChangeNote note_change(Call& call, const Id& dir, const Id& dir2, uint32_t flags) {
  const auto begin = [&call, dir, dir2, flags](const store::Change& change) {
    Intent intent;
    intent.op = call.request.header.op;
    intent.flags = flags;
    intent.counts = change.counts;
    intent.dir = change.dir.is_none() ? dir : change.dir, intent.dir2 = dir2;
    intent.object = change.object, intent.object2 = change.object2;
    intent.offset = change.backup != 0 ? change.backup : change.mode, intent.size = change.nlink;
    copy_name(call.request.name, intent.name, intent.name_size);
    copy_name(call.request.name2.substr(0, 255), intent.name2, intent.name2_size);
    call.note.write(intent);
  };
  const auto done = [&call](const store::ChangeNote::Say& say) {
    say(call.reply);
    call.note.done(call.reply);
  };
  return {begin, done};
}

store::Maker maker_of(const Call& call) {
  return {call.session_id, store::Credentials::of(call.request.header)};
}

Result<void> op_lookup(Call& call) {
  auto body = call.request.as<wire::NameBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  if (auto named = store::check_known_name(**dir, call.request.name); !named) return named;
  const std::string name(call.request.name);
  auto lock = call.store.name_locks().name((*dir)->id(), name);
  auto entry = store::read_entry(call.store, **dir, name);
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);  // with `leaving` set the client asks the deciding brick
  return {};
}

Result<void> op_create(Call& call) {
  auto body = call.request.as<wire::CreateBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::create_file(call.store, *dir, std::string(call.request.name), *body, maker_of(call),
                                  note_change(call, body->dir.id, {}, body->flags), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

namespace {

Result<void> make_node(Call& call, bool symlink) {
  auto body = call.request.as<wire::MakeBody>();
  if (!body) return fail(body.error());
  const std::string target(symlink ? call.request.name2 : std::string_view());
  if (symlink && target.empty()) return fail(ENOENT);  // symlink(2)
  if (!symlink && S_ISLNK(body->mode)) return fail(EINVAL);
  auto dir = enter(call, body->dir);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::make_node(call.store, *dir, std::string(call.request.name), *body, target, maker_of(call),
                                note_change(call, body->dir.id, {}, 0), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

}  // namespace

Result<void> op_mknod(Call& call) { return make_node(call, false); }
Result<void> op_symlink(Call& call) { return make_node(call, true); }

Result<void> op_unlink(Call& call) {
  auto body = call.request.as<wire::UnlinkBody>();
  if (!body) return fail(body.error());
  if (auto closed = release_all(call, call.request.data); !closed && closed.error().code != wire::kOpenUnknown) return closed;
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::unlink_name(call.store, *dir, std::string(call.request.name), *body,
                                  note_change(call, body->dir.id, {}, body->flags), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_rename(Call& call) {
  auto body = call.request.as<wire::RenameBody>();
  if (!body) return fail(body.error());
  auto from = enter(call, body->from, true);
  if (!from) return fail(from.error());
  auto to = enter(call, body->to);
  if (!to) return fail(to.error());
  wire::EntryBody met{};
  auto reply = store::rename_name(call.store, *from, std::string(call.request.name), *to,
                                  std::string(call.request.name2), *body,
                                  note_change(call, body->from.id, body->to.id, body->flags), met);
  if (!reply) return refuse(call, reply.error(), met);
  call.reply.set_body(*reply);
  return {};
}

Result<void> op_link(Call& call) {
  auto body = call.request.as<wire::LinkBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::link_object(call.store, *dir, std::string(call.request.name), *body,
                                  note_change(call, body->dir.id, {}, body->flags), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_tmpfile(Call& call) {
  auto body = call.request.as<wire::CreateBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir);
  if (!dir) return fail(dir.error());
  auto entry = store::make_tmpfile(call.store, *dir, *body, maker_of(call),
                                   note_change(call, body->dir.id, {}, body->flags));
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_readdir(Call& call) {
  auto body = call.request.as<wire::ReaddirBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  const store::PageRequest request{body->position, body->size_max, (body->flags & 1) != 0, (body->flags & 2) != 0};
  auto page = store::read_page(call.store, **dir, request, call.reply.data_room);
  if (!page) return fail(page.error());
  call.reply.set_body(page->reply);
  call.reply.header.data_size = static_cast<uint32_t>(page->size);
  return {};
}

Result<void> op_park(Call& call) {
  auto body = call.request.as<wire::UnlinkBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto parked = store::park_name(call.store, *dir, std::string(call.request.name), *body,
                                 note_change(call, body->dir.id, {}, 0), met);
  if (!parked) return refuse(call, parked.error(), met);
  return {};
}

Result<void> op_settle(Call& call) {
  auto body = call.request.as<wire::SettleBody>();
  if (!body) return fail(body.error());
  wire::EntryBody met{};
  auto entry = store::settle_object(call.store, *body, std::string(call.request.name), std::string(call.request.name2), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

}  // namespace voldfs::server
