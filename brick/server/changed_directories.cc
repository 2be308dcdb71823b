#include "brick/server/changed_directories.h"

#include <cstring>

#include "brick/store/attr.h"
#include "brick/store/directories.h"

namespace voldfs::server {
namespace {

// Those that change an object of any kind, and a directory by that.
bool changes_attributes(wire::Op op) {
  return op == wire::Op::kSetattr || op == wire::Op::kFlagsSet || op == wire::Op::kSetxattr || op == wire::Op::kRemovexattr;
}

}  // namespace

void tell_directories(store::Store& store, const wire::RequestView& request, std::span<const LeaseItem> changed,
                      wire::ReplyBuilder& reply, std::vector<LeaseItem>& told) {
  if (request.op() == wire::Op::kSetGrow) return;  // its payload is something else
  for (const LeaseItem& item : changed) {
    if (!(item.what & kLeaseEntries) && !changes_attributes(request.op())) continue;
    const auto directory = store.directories().cached(item.object);
    const auto attr = directory ? store::get_attr(directory->fd()) : fail(ENOENT);
    wire::DirAfter after{item.object, {}, 0, 0};
    if (attr) {
      const wire::DirRecord record = directory->record();
      after = {item.object, *attr, record.subdirectories, record.times_change};
      told.push_back({item.object, kLeaseAttr});
    } else if (!(item.what & kLeaseEntries)) {
      continue;  // a file
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(&after);
    reply.data.insert(reply.data.end(), bytes, bytes + sizeof after);
    reply.header.flags |= wire::kFlagDirectories;
  }
}

}  // namespace voldfs::server
