#pragma once

#include <span>
#include <vector>

#include "brick/server/lease_table.h"
#include "brick/store/store.h"
#include "brick/wire/message.h"

namespace voldfs::server {

// Appends to the reply what the directories among `changed` look like now (wire::DirAfter), and to `told` that it does:
// the client's kernel asks for a directory's attributes after each change of its names, and this answers it beforehand. Of one that
// cannot be looked at (it is gone, or was given up meanwhile) it says that what was known of it is void.
void tell_directories(store::Store& store, const wire::RequestView& request, std::span<const LeaseItem> changed,
                      wire::ReplyBuilder& reply, std::vector<LeaseItem>& told);

}  // namespace voldfs::server
