#include "brick/server/ops_directory.h"

#include "brick/server/ops_name.h"
#include "brick/store/adoption.h"
#include "brick/store/directory_make.h"
#include "brick/store/directory_remove.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"

namespace voldfs::server {
namespace {

constexpr size_t kIdsMax = 4096;  // told at once by kDirList

Result<void> answer(Call& call, const Result<wire::EntryBody>& entry) {
  if (!entry) return fail(entry.error());
  call.reply.set_body(*entry);
  return {};
}

// With all that another brick needs to hold the directory.
Result<void> answer_export(Call& call, const Id& id, const Result<wire::EntryBody>& entry) {
  if (!entry) return fail(entry.error());
  auto dir = call.store.directories().find(id);
  if (!dir) return fail(dir.error());
  auto xattrs = store::export_xattrs((*dir)->fd());
  if (!xattrs) return fail(xattrs.error());
  // The name that it has here; a directory that is parked has none.
  if (auto place = store::find_place(**dir); place && !store::is_parked(call.store, *place)) call.reply.name = place->name;
  call.reply.data = std::move(*xattrs);
  call.reply.set_body(*entry);
  return {};
}

}  // namespace

Result<void> op_mkdir(Call& call) {
  auto body = call.request.as<wire::MkdirBody>();
  if (!body) return fail(body.error());
  auto parent = enter(call, body->dir);
  if (!parent) return fail(parent.error());
  if (body->record.parent != body->dir.id) return fail(EINVAL);
  wire::EntryBody met{};
  auto entry = store::make_directory(call.store, *parent, std::string(call.request.name), *body, call.request.data,
                                     maker_of(call), note_change(call, body->dir.id, {}, body->record.role), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

Result<void> op_rmdir(Call& call) {
  auto body = call.request.as<wire::RmdirBody>();
  if (!body) return fail(body.error());
  store::DirectoryPtr parent;
  if (!body->dir.id.is_none()) {
    auto entered = enter(call, body->dir, true);
    if (!entered) return fail(entered.error());
    parent = *entered;
  }
  wire::EntryBody met{};
  auto removed = store::remove_directory(call.store, parent, std::string(call.request.name), *body,
                                         note_change(call, body->dir.id, {}, static_cast<uint32_t>(body->phase)), met);
  if (!removed) return refuse(call, removed.error(), met);
  if (body->phase == wire::RemovePhase::kWhole) call.reply.set_body(met);
  return {};
}

Result<void> op_dir_get(Call& call) {
  auto body = call.request.as<wire::DirBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  return answer(call, store::describe_directory(**dir));
}

Result<void> op_dir_export(Call& call) {
  auto body = call.request.as<wire::DirBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir, true);
  if (!dir) return fail(dir.error());
  return answer_export(call, body->dir.id, store::describe_directory(**dir));
}

Result<void> op_set_grow(Call& call) {
  auto body = call.request.as<wire::SetGrowBody>();
  if (!body) return fail(body.error());
  return answer_export(call, body->id, store::grow_set(call.store, *body));
}

Result<void> op_materialize(Call& call) {
  auto body = call.request.as<wire::MaterializeBody>();
  if (!body) return fail(body.error());
  return answer(call, store::materialize(call.store, *body, std::string(call.request.name), call.request.data));
}

Result<void> op_dir_refresh(Call& call) {
  auto body = call.request.as<wire::MaterializeBody>();
  if (!body) return fail(body.error());
  return answer(call, store::refresh_directory(call.store, *body, std::string(call.request.name), call.request.data));
}

Result<void> op_dir_update(Call& call) {
  auto body = call.request.as<wire::DirUpdateBody>();
  if (!body) return fail(body.error());
  return answer(call, store::update_directory(call.store, *body, std::string(call.request.name), note_change(call, {}, {}, 0)));
}

Result<void> op_dir_list(Call& call) {
  auto after = call.request.as<wire::DirRef>();
  if (!after) return fail(after.error());
  auto ids = call.store.directories().list(after->id, kIdsMax);
  if (!ids) return fail(ids.error());
  const auto bytes = std::as_bytes(std::span(*ids));
  call.reply.data.assign(bytes.begin(), bytes.end());
  return {};
}

Result<void> op_dir_unite(Call& call) {
  auto body = call.request.as<wire::MaterializeBody>();
  if (!body) return fail(body.error());
  return answer(call, store::unite_directory(call.store, *body, std::string(call.request.name), call.request.data));
}

Result<void> op_dir_epoch(Call& call) {
  auto body = call.request.as<wire::DirBody>();
  if (!body) return fail(body.error());
  return answer(call, store::set_epoch(call.store, body->dir));
}

Result<void> op_stub_make(Call& call) {
  auto body = call.request.as<wire::StubBody>();
  if (!body) return fail(body.error());
  auto dir = enter(call, body->dir);
  if (!dir) return fail(dir.error());
  wire::EntryBody met{};
  auto entry = store::make_stub(call.store, *dir, std::string(call.request.name), body->link, note_change(call, body->dir.id, {}, 0), met);
  if (!entry) return refuse(call, entry.error(), met);
  call.reply.set_body(*entry);
  return {};
}

}  // namespace voldfs::server
