#include "brick/server/lease_effects.h"

#include <fcntl.h>

#include <cstddef>
#include <cstring>

namespace voldfs::server {

namespace {

using wire::Op;

constexpr std::string_view kCapability = "security.capability";

// The body, which dispatch has checked for its size.
template <class Body>
Body body_of(const wire::RequestView& request) {
  Body body{};
  if (request.header.body_size == sizeof body) std::memcpy(&body, request.body, sizeof body);
  return body;
}

template <class Body>
Body body_of(const wire::ReplyBuilder& reply) {
  Body body{};
  if (reply.header.body_size == sizeof body) std::memcpy(&body, reply.body.data(), sizeof body);
  return body;
}

class Items {
 public:
  void add(const Id& object, uint8_t what) {
    if (!object.is_none()) items_.push_back({object, what});
  }
  void attr(const Id& object) { add(object, kLeaseAttr); }
  void all(const Id& object) { add(object, kLeaseAttr | kLeaseEntries); }
  std::vector<LeaseItem> take() { return std::move(items_); }

 private:
  std::vector<LeaseItem> items_;
};

// Every body that names a parent directory begins with its DirRef.
Id directory_of(const wire::RequestView& request) {
  wire::DirRef dir{};
  if (request.header.body_size >= sizeof dir) std::memcpy(&dir, request.body, sizeof dir);
  return dir.id;
}

// Every body that names an object begins with its id.
Id object_of(const wire::RequestView& request) {
  Id id;
  if (request.header.body_size >= sizeof id) std::memcpy(id.bytes.data(), request.body, sizeof id);
  return id;
}

// What is told of attributes: may be kept, or is marked as what may not.
struct Telling {
  Items& items;
  const std::function<bool(const Id& file)>& is_pinned;

  void attr(const Id& id, wire::ObjectType type, std::byte* attr) const {
    if (type != wire::ObjectType::kFile || !is_pinned(id)) return items.attr(id);
    items.add(id, kLeaseOwner);
    uint32_t flags;
    std::memcpy(&flags, attr + offsetof(wire::Attr, flags), sizeof flags);
    flags |= wire::kAttrPinned;
    std::memcpy(attr + offsetof(wire::Attr, flags), &flags, sizeof flags);
  }
};

// An EntryBody, if it is one of an object that is here.
void tell_object(std::byte* body, size_t size, const Telling& telling) {
  wire::EntryBody entry{};
  if (size == sizeof entry) std::memcpy(&entry, body, sizeof entry);
  if (entry.kind == wire::EntryKind::kObject && entry.attr.mode != 0)
    telling.attr(entry.object.id, entry.type, body + offsetof(wire::EntryBody, attr));
}

// A name's answer: the name in its directory and, where the object is here, its attributes. A name that is on its way
// elsewhere may not be kept: its fate is decided on another brick.
void tell_entry(const wire::RequestView& request, wire::ReplyBuilder& reply, const Telling& telling) {
  const auto entry = body_of<wire::EntryBody>(reply);
  if (entry.leaving) return;
  telling.items.add(directory_of(request), kLeaseEntries);
  tell_object(reply.body.data(), reply.header.body_size, telling);
}

void tell_page(const wire::RequestView& request, wire::ReplyBuilder& reply, const Telling& telling) {
  std::byte* page = reply.data.empty() ? reply.data_room.data() : reply.data.data();
  const size_t size = reply.data.empty() ? reply.header.data_size : reply.data.size();
  telling.items.add(directory_of(request), kLeaseEntries);
  wire::DirentHeader entry;
  for (size_t at = 0; at + sizeof entry <= size; at += entry.size) {
    std::memcpy(&entry, page + at, sizeof entry);
    if (entry.size == 0) break;
    if (entry.with_attr) telling.attr(entry.id, entry.type, page + at + sizeof entry);
  }
}

void tell_many(wire::ReplyBuilder& reply, const Telling& telling) {
  std::byte* bodies = reply.data.empty() ? reply.data_room.data() : reply.data.data();
  const size_t size = reply.data.empty() ? reply.header.data_size : reply.data.size();
  for (size_t at = 0; at + sizeof(wire::EntryBody) <= size; at += sizeof(wire::EntryBody))
    tell_object(bodies + at, sizeof(wire::EntryBody), telling);
}

}  // namespace

std::vector<LeaseItem> told_by(const wire::RequestView& request, wire::ReplyBuilder& reply, int status,
                               const std::function<bool(const Id& file)>& is_pinned) {
  Items items;
  const Telling telling{items, is_pinned};
  if (status != 0) {
    // That a name is missing is knowledge too, also because the directory is not here at all.
    if (request.op() == Op::kLookup && (status == ENOENT || status == wire::kDirAbsent))
      items.add(directory_of(request), kLeaseEntries);
    // The kernel wants to know before each write to a file that it has new attributes of.
    if (request.op() == Op::kGetxattr && status == ENODATA) items.add(object_of(request), kLeaseNoCapability);
    return items.take();
  }
  switch (request.op()) {
    case Op::kLookup:
    case Op::kMknod:
    case Op::kSymlink:
    case Op::kLink: tell_entry(request, reply, telling); break;
    case Op::kCreate: {
      tell_entry(request, reply, telling);
      const auto entry = body_of<wire::EntryBody>(reply);
      if (!entry.existed) items.add(entry.object.id, kLeaseNoCapability);
      break;
    }
    case Op::kMkdir:  // and that the new directory is empty
      tell_entry(request, reply, telling);
      items.add(body_of<wire::EntryBody>(reply).object.id, kLeaseEntries);
      break;
    case Op::kGetattr:
    case Op::kSetattr:
    case Op::kOpen:
    case Op::kDirGet: tell_object(reply.body.data(), reply.header.body_size, telling); break;
    case Op::kReaddir: tell_page(request, reply, telling); break;
    case Op::kGetattrMany: tell_many(reply, telling); break;
    default: break;
  }
  return items.take();
}

std::vector<LeaseItem> changed_by(const wire::RequestView& request, const wire::ReplyBuilder& reply) {
  Items items;
  switch (request.op()) {
    case Op::kCreate: {
      const auto entry = body_of<wire::EntryBody>(reply);
      if (!entry.existed) {
        items.all(directory_of(request));
      } else if (body_of<wire::CreateBody>(request).flags & O_TRUNC) {
        items.attr(entry.object.id);
      }
      break;
    }
    case Op::kMknod:
    case Op::kSymlink:
    case Op::kMkdir:
    case Op::kPark:
    case Op::kStubMake:
    case Op::kTxnMark:
    case Op::kTxnUnmark:
    case Op::kTxnLeave: items.all(directory_of(request)); break;
    case Op::kUnlink:
      items.all(directory_of(request));
      items.attr(body_of<wire::EntryBody>(reply).object.id);
      break;
    case Op::kRmdir: {
      const auto body = body_of<wire::RmdirBody>(request);
      items.all(body.dir.id);
      items.all(body.id.is_none() ? body_of<wire::EntryBody>(reply).object.id : body.id);
      break;
    }
    case Op::kRename: {
      const auto body = body_of<wire::RenameBody>(request);
      const auto done = body_of<wire::RenameReply>(reply);
      items.all(body.from.id);
      if (body.to.id != body.from.id) items.all(body.to.id);
      items.attr(done.moved.object.id);
      items.attr(done.replaced.object.id);
      break;
    }
    case Op::kLink:
      items.all(directory_of(request));
      items.attr(body_of<wire::LinkBody>(request).object.id);
      break;
    case Op::kSetGrow:
    case Op::kMaterialize:
    case Op::kDirRefresh:
    case Op::kDirUpdate:
    case Op::kDirUnite:
    case Op::kDirEpoch: items.all(object_of(request)); break;  // the id comes first in the body of each
    case Op::kOpen:
      if (body_of<wire::OpenBody>(request).flags & O_TRUNC) items.attr(object_of(request));
      break;
    case Op::kSetattr: {
      constexpr uint32_t kOwners = wire::kSetUid | wire::kSetGid | wire::kSetMode;
      const bool of_owner = body_of<wire::SetattrBody>(request).valid & kOwners;
      items.add(object_of(request), of_owner ? kLeaseAttr | kLeaseOwner : kLeaseAttr);
      break;
    }
    case Op::kFlagsSet:
    case Op::kWrite:
    case Op::kFallocate:
    case Op::kRemovexattr: items.attr(object_of(request)); break;
    case Op::kSetxattr:
      items.add(object_of(request), request.name == kCapability ? kLeaseAttr | kLeaseNoCapability : kLeaseAttr);
      break;
    case Op::kSettle:
      items.attr(object_of(request));
      if (body_of<wire::EntryBody>(reply).existed) items.all(body_of<wire::SettleBody>(request).from_dir);
      break;
    case Op::kCopyRange: items.attr(body_of<wire::CopyRangeBody>(request).to.id); break;
    case Op::kTxnCommit: {  // the reply has the record: whose name, and what it replaced
      const auto record = body_of<wire::TxnRecord>(reply);
      items.all(record.to.dir);
      items.attr(record.object.object);
      items.attr(record.replaced.object);
      break;
    }
    default: break;
  }
  return items.take();
}

bool may_change(wire::Op op) {
  switch (op) {
    case Op::kCreate:
    case Op::kMknod:
    case Op::kSymlink:
    case Op::kMkdir:
    case Op::kUnlink:
    case Op::kRmdir:
    case Op::kRename:
    case Op::kLink:
    case Op::kSetGrow:
    case Op::kMaterialize:
    case Op::kDirRefresh:
    case Op::kDirUpdate:
    case Op::kPark:
    case Op::kDirUnite:
    case Op::kDirEpoch:
    case Op::kStubMake:
    case Op::kOpen:
    case Op::kSetattr:
    case Op::kFlagsSet:
    case Op::kWrite:
    case Op::kFallocate:
    case Op::kSetxattr:
    case Op::kRemovexattr:
    case Op::kSettle:
    case Op::kCopyRange:
    case Op::kTxnCommit:
    case Op::kTxnMark:
    case Op::kTxnUnmark:
    case Op::kTxnLeave: return true;
    default: return false;
  }
}

}  // namespace voldfs::server
