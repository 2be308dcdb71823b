#include "brick/store/object.h"

#include <fcntl.h>

#include "brick/store/attr.h"
#include "brick/store/handle.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {

Object::Object(const wire::ObjectRef& ref, std::shared_ptr<OpenFile> open)
    : ref_(ref), open_(std::move(open)), fd_(open_->fd.get()), type_(wire::ObjectType::kFile) {
  if (ref_.id != open_->id) ref_ = {open_->id, {}};  // the reference beside an open is a hint
}

Object::Object(const wire::ObjectRef& ref, DirectoryPtr directory)
    : ref_{ref.id, {}}, directory_(std::move(directory)), fd_(directory_->fd()), type_(wire::ObjectType::kDirectory) {}

Object::Object(const wire::ObjectRef& ref, unique_fd fd, wire::ObjectType type)
    : ref_(ref), own_(std::move(fd)), fd_(own_.get()), type_(type) {}

namespace {

bool is_writable(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

Result<Object> find_nameless(Store& store, const wire::ObjectRef& ref, int flags) {
  auto fd = store.open_files().open_nameless(ref.id, flags);
  if (!fd) return fail(fd.error());
  auto attr = get_attr(fd->get());
  if (!attr) return fail(attr.error());
  return Object(ref, std::move(*fd), type_of_mode(attr->mode));
}

}  // namespace

Result<Object> find_object(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t open, int flags) {
  if (open != 0) {
    auto file = store.open_files().find(session, open);
    if (!file) return fail(wire::kOpenUnknown);
    if (is_writable(flags) && !is_writable(file->flags)) return fail(EBADF);
    return Object(ref, std::move(file));
  }
  if (ref.handle.size != 0 && Handles::type_of(ref.handle) != wire::ObjectType::kDirectory) {
    auto fd = store.handles().open(ref, flags);
    if (!fd) return fail(fd.error());
    return Object(ref, std::move(*fd), Handles::type_of(ref.handle));
  }
  if (ref.id.is_none()) return fail(EINVAL);
  if (store.open_files().is_nameless(ref.id)) return find_nameless(store, ref, flags);
  auto directory = store.directories().find(ref.id);
  if (!directory) return fail(directory.error());
  return Object(ref, std::move(*directory));
}

Result<Object> find_file(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t open, int flags) {
  auto object = find_object(store, session, ref, open, flags);
  if (!object) return object;
  if (object->type() == wire::ObjectType::kDirectory) return fail(EISDIR);
  if (!object->is_file()) return fail(EINVAL);
  if (object->open() && object->open()->failed) return fail(EIO);
  return object;
}

Result<wire::Attr> attr_of(Store& store, const Object& object) {
  auto attr = get_attr(object.fd());
  if (attr && attr->nlink > 0 && store.open_files().is_nameless(object.id())) --attr->nlink;
  return attr;
}

Result<wire::EntryBody> entry_of(Store& store, const Object& object) {
  wire::EntryBody entry{};
  entry.kind = wire::EntryKind::kObject;
  entry.type = object.type();
  entry.object = object.ref();
  auto attr = attr_of(store, object);
  if (!attr) return fail(attr.error());
  entry.attr = *attr;
  if (object.directory()) {
    entry.dir = object.directory()->record();
  } else if (entry.object.handle.size == 0) {
    auto handle = store.handles().make(object.fd(), object.id(), object.type());
    if (!handle) return fail(handle.error());
    entry.object.handle = *handle;
  }
  return entry;
}

}  // namespace voldfs::store
