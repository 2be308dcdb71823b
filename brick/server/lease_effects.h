#pragma once

#include <functional>
#include <vector>

#include "brick/server/lease_table.h"
#include "brick/wire/message.h"

// Which objects an operation tells of, and which it changes: one switch each, read off request and reply. Apart from
// the handlers, so that no operation can forget it.
namespace voldfs::server {

// What the reply would let the client cache. Empty: nothing. `status` is the reply's. Files for which `is_pinned` holds are left out,
// and their attributes in the reply marked.
std::vector<LeaseItem> told_by(const wire::RequestView& request, wire::ReplyBuilder& reply, int status,
                               const std::function<bool(const Id& file)>& is_pinned);

// What others may not go on believing. Also of a request that failed: it may have done half of its work.
std::vector<LeaseItem> changed_by(const wire::RequestView& request, const wire::ReplyBuilder& reply);

// Whether changed_by() can have anything to say of such a request.
bool may_change(wire::Op op);

}  // namespace voldfs::server
