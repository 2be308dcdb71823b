#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "brick/server/operation.h"
#include "brick/store/attr.h"
#include "brick/store/credentials.h"
#include "brick/store/directories.h"
#include "brick/store/directory_make.h"
#include "brick/store/handle.h"
#include "brick/store/names_entry.h"
#include "brick/store/names_rename.h"
#include "brick/store/object.h"
#include "brick/store/object_attr.h"
#include "brick/store/object_open.h"
#include "brick/store/open_files.h"
#include "brick/store/store.h"
#include "brick/store/txn_commit.h"
#include "brick/store/xattr.h"

// What became of operations that a kill cut: the id at the name, or that it is no longer there, tells. Runs alone, before anyone
// is served, so that no locks are taken. An operation that happened gets what was left of it done, and its reply.
namespace voldfs::server {
namespace {

using wire::Op;

std::string first_name(const Intent& intent) {
  return {intent.name, std::min<size_t>(intent.name_size, sizeof intent.name)};
}
std::string second_name(const Intent& intent) {
  return {intent.name2, std::min<size_t>(intent.name2_size, sizeof intent.name2)};
}

Settled happened(wire::ReplyBuilder& reply, const wire::EntryBody& entry) {
  reply.set_body(entry);
  return Settled::kHappened;
}

Settled unknown(const Intent& intent, Error error) {
  spdlog::error("slot-unsettled operation={} error={}", intent.op, error.code);
  return Settled::kUnknown;
}

// A parent that is not here (any more) has no names here.
bool is_gone(Error error) { return error.code == wire::kDirAbsent || error.code == wire::kDirRemoved; }

// Takes away what a creation left that was cut before it had an id. The name was free when the intent was written, so that
// nobody else can have put it there.
Result<void> remove_unfinished(const store::Directory& dir, const std::string& name) {
  struct stat stat;
  if (fstatat(dir.fd(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? Result<void>() : fail_errno();
  if (S_ISREG(stat.st_mode) && stat.st_size != 0) return fail(EEXIST);
  if (unlinkat(dir.fd(), name.c_str(), S_ISDIR(stat.st_mode) ? AT_REMOVEDIR : 0) != 0) return fail_errno();
  return {};
}

Settled settle_creation(store::Store& store, uint64_t session, const Intent& intent, wire::ReplyBuilder& reply) {
  auto dir = store.directories().find(intent.dir);
  if (!dir) return is_gone(dir.error()) ? Settled::kDidNot : unknown(intent, dir.error());
  const std::string name = first_name(intent);
  auto id = store::get_id_at((*dir)->fd(), name.c_str());
  if (!id && id.error().code == ENOENT) return Settled::kDidNot;
  if (!id && id.error().code == ENODATA) {
    auto removed = remove_unfinished(**dir, name);
    return removed ? Settled::kDidNot : unknown(intent, removed.error());
  }
  if (!id) return unknown(intent, id.error());
  if (*id != intent.object) return Settled::kDidNot;
  auto entry = store::read_entry(store, **dir, name);
  if (!entry) return unknown(intent, entry.error());
  if (static_cast<Op>(intent.op) == Op::kCreate) {
    auto opened = store::open_file(store, session, entry->object, intent.flags & ~(O_CREAT | O_EXCL | O_TRUNC), 0, {});
    if (!opened) return unknown(intent, opened.error());
    entry->open = opened->number;
  }
  return happened(reply, *entry);
}

Settled settle_tmpfile(store::Store& store, uint64_t session, const Intent& intent, wire::ReplyBuilder& reply) {
  auto fd = store.open_files().open_nameless(intent.object, O_RDWR);
  if (!fd && fd.error().code == wire::kStaleHandle) return Settled::kDidNot;
  if (!fd) return unknown(intent, fd.error());
  wire::EntryBody entry{};
  auto attr = store::get_attr(fd->get());
  if (!attr) return unknown(intent, attr.error());
  entry.kind = wire::EntryKind::kObject;
  entry.type = wire::ObjectType::kFile;
  entry.attr = *attr;
  entry.attr.nlink = 0;
  auto handle = store.handles().make(fd->get(), intent.object, entry.type);
  if (!handle) return unknown(intent, handle.error());
  entry.object = {intent.object, *handle};
  auto open = store.open_files().insert(session, intent.object, std::move(*fd), static_cast<int>(intent.flags));
  if (!open) return unknown(intent, open.error());
  entry.open = (*open)->number;
  return happened(reply, entry);
}

// What the client is told of a name that is gone; mode and link count are from before (note_change()).
wire::EntryBody entry_of_removed(const Id& object, uint64_t mode, uint64_t nlink) {
  wire::EntryBody entry{};
  entry.kind = mode == 0 ? wire::EntryKind::kStub : wire::EntryKind::kObject;
  entry.type = store::type_of_mode(static_cast<uint32_t>(mode));
  entry.object.id = object;
  entry.attr.mode = static_cast<uint32_t>(mode);
  entry.attr.nlink = nlink > 0 ? static_cast<uint32_t>(nlink - 1) : 0;
  return entry;
}

Settled settle_unlink(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto dir = store.directories().find(intent.dir);
  if (!dir && !is_gone(dir.error())) return unknown(intent, dir.error());
  if (dir) {
    auto entry = store::read_entry(store, **dir, first_name(intent));
    if (!entry && entry.error().code != ENOENT) return unknown(intent, entry.error());
    if (entry && entry->object.id == intent.object) return Settled::kDidNot;
  }
  return happened(reply, entry_of_removed(intent.object, intent.offset, intent.size));
}

Settled settle_rmdir(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto target = store.directories().find(intent.object);
  if (target) return Settled::kDidNot;
  if (!is_gone(target.error())) return unknown(intent, target.error());
  auto forgotten = store.directories().forget(intent.object, true);
  if (!forgotten) return unknown(intent, forgotten.error());
  if (static_cast<wire::RemovePhase>(intent.flags) != wire::RemovePhase::kWhole) return Settled::kHappened;
  wire::EntryBody gone{};  // so that its copy goes too
  gone.kind = wire::EntryKind::kObject;
  gone.type = wire::ObjectType::kDirectory;
  gone.object.id = gone.dir.id = intent.object;
  gone.dir.home = store.identity().ordinal;
  gone.dir.backup = static_cast<uint16_t>(intent.offset);
  return happened(reply, gone);
}

Settled settle_rename(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto from = store.directories().find(intent.dir);
  auto to = store.directories().find(intent.dir2);
  if (!to) return is_gone(to.error()) ? Settled::kDidNot : unknown(intent, to.error());
  auto moved = store::read_entry(store, **to, second_name(intent));
  if (!moved && moved.error().code != ENOENT) return unknown(intent, moved.error());
  if (!moved || moved->object.id != intent.object) return Settled::kDidNot;
  wire::RenameReply answer{};
  answer.moved = *moved;
  const bool exchange = (intent.flags & RENAME_EXCHANGE) != 0;
  if (!intent.object2.is_none()) answer.replaced = entry_of_removed(intent.object2, intent.offset, intent.size);
  if (from) {
    auto left = store::read_entry(store, **from, first_name(intent));
    if (!left && left.error().code != ENOENT) return unknown(intent, left.error());
    if (left && left->object.id == intent.object) return Settled::kDidNot;  // two names of one file
    // A directory and a stub change places, and what was replaced goes after that.
    const bool is_left = left && !intent.object2.is_none() && left->object.id == intent.object2;
    if (is_left && !exchange) {
      const bool real = left->kind == wire::EntryKind::kObject && left->type == wire::ObjectType::kDirectory;
      if (unlinkat((*from)->fd(), first_name(intent).c_str(), real ? AT_REMOVEDIR : 0) != 0) return unknown(intent, Error::from_errno());
    }
    if (is_left && exchange) {
      answer.replaced = *left;
      if (auto done = store::finish_rename(store, *from, *left, Id{}); !done) return unknown(intent, done.error());
    }
  }
  const bool replaced_directory = !exchange && S_ISDIR(static_cast<uint32_t>(intent.offset));
  auto done = store::finish_rename(store, *to, *moved, replaced_directory ? intent.object2 : Id{});
  if (!done) return unknown(intent, done.error());
  reply.set_body(answer);
  return Settled::kHappened;
}

Settled settle_link(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto dir = store.directories().find(intent.dir);
  if (!dir) return is_gone(dir.error()) ? Settled::kDidNot : unknown(intent, dir.error());
  auto entry = store::read_entry(store, **dir, first_name(intent));
  if (!entry && entry.error().code == ENOENT) return Settled::kDidNot;
  if (!entry) return unknown(intent, entry.error());
  if (entry->object.id != intent.object) return Settled::kDidNot;
  if (store.open_files().is_nameless(intent.object)) {
    if (auto named = store.open_files().named(intent.object); !named) return unknown(intent, named.error());
    --entry->attr.nlink;
  }
  return happened(reply, *entry);
}

Settled settle_stub(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto dir = store.directories().find(intent.dir);
  if (!dir) return is_gone(dir.error()) ? Settled::kDidNot : unknown(intent, dir.error());
  auto entry = store::read_entry(store, **dir, first_name(intent));
  if (!entry && entry.error().code != ENOENT) return unknown(intent, entry.error());
  if (!entry || entry->kind != wire::EntryKind::kStub || entry->object.id != intent.object) return Settled::kDidNot;
  return happened(reply, *entry);
}

Settled settle_commit(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  auto txn = store::complete_commit(store, intent.object);
  if (!txn) return unknown(intent, txn.error());  // its record goes after the commit has been answered
  if (txn->record.state != wire::TxnState::kCommitted) return Settled::kDidNot;
  reply.set_body(txn->record);
  reply.name = txn->old_name, reply.name2 = txn->new_name;
  return Settled::kHappened;
}

// An append: the file's end tells how much of it is there. A part is answered as a short write.
Settled settle_append(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  wire::ObjectRef object{intent.object, {}};
  if (intent.name2_size != sizeof object.handle) return Settled::kUnknown;
  std::memcpy(&object.handle, intent.name2, sizeof object.handle);
  auto fd = store.handles().open(object, O_RDONLY);
  if (!fd) return unknown(intent, fd.error());
  auto attr = store::get_attr(fd->get());
  if (!attr) return unknown(intent, attr.error());
  if (attr->size <= intent.offset) return Settled::kDidNot;
  wire::WriteReply answer{};
  answer.size = static_cast<uint32_t>(std::min(attr->size - intent.offset, intent.size));
  answer.offset = intent.offset;
  answer.attr = *attr;
  reply.set_body(answer);
  return Settled::kHappened;
}

// An attribute that was to be added (and was not there) or to be taken away (and was).
Settled settle_xattr(store::Store& store, const Intent& intent, wire::ReplyBuilder& reply) {
  wire::ObjectRef ref{intent.object, {}};
  if (intent.name2_size != sizeof ref.handle) return Settled::kUnknown;
  std::memcpy(&ref.handle, intent.name2, sizeof ref.handle);
  auto object = store::find_object(store, 0, ref, 0, O_RDONLY);
  if (!object) return unknown(intent, object.error());
  auto size = store::get_user_xattr(*object, first_name(intent), {});
  if (!size && size.error().code != ENODATA) return unknown(intent, size.error());
  if (size.has_value() != (static_cast<Op>(intent.op) == Op::kSetxattr)) return Settled::kDidNot;
  if (object->directory()) {  // the change may not have been counted; once more does no harm
    auto counted = object->directory()->update([&](wire::DirRecord& record) -> Result<void> {
      record.change = intent.offset == 0 ? record.change + 1 : std::max(record.change, intent.offset);
      return {};
    });
    if (!counted) return unknown(intent, counted.error());
  }
  auto entry = store::entry_of(store, *object);
  return entry ? happened(reply, *entry) : unknown(intent, entry.error());
}

}  // namespace

Settled settle_intent(store::Store& store, uint64_t session_id, const Intent& intent, wire::ReplyBuilder& reply) {
  store::RootScope scope;
  switch (static_cast<Op>(intent.op)) {
    case Op::kCreate:
    case Op::kMknod:
    case Op::kSymlink:
    case Op::kMkdir: return settle_creation(store, session_id, intent, reply);
    case Op::kTmpfile: return settle_tmpfile(store, session_id, intent, reply);
    case Op::kUnlink: return settle_unlink(store, intent, reply);
    case Op::kRmdir: return settle_rmdir(store, intent, reply);
    case Op::kRename: return settle_rename(store, intent, reply);
    case Op::kLink: return settle_link(store, intent, reply);
    case Op::kWrite: return settle_append(store, intent, reply);
    case Op::kSetxattr:
    case Op::kRemovexattr: return settle_xattr(store, intent, reply);
    case Op::kTxnCommit: return settle_commit(store, intent, reply);
    case Op::kStubMake: return settle_stub(store, intent, reply);
    // Repeated, they do what is left to be done; but what they count is counted now.
    case Op::kTxnLeave:
    case Op::kDirUpdate:
    case Op::kPark: return Settled::kDidNot;
    default: return Settled::kUnknown;
  }
}

}  // namespace voldfs::server
