#pragma once

#include <memory>
#include <span>
#include <vector>

#include "brick/server/operation.h"
#include "brick/server/server_state.h"

namespace voldfs::server {

// Carries out one request of a connection that has been let in, and fills the reply, its header included. `session`:
// null on a connection that may only ask. `data_room`: for operations with reply_data. `payloads`: what request and data_room
// borrow; given back as soon as a change is made, before others are waited for that are to hear of it: those are clients, who may be
// slow or frozen, and the buffers are everybody's. Any lane's thread.
// False: close the connection instead of replying (a test's fault dial).
bool dispatch(ServerState& server, const std::shared_ptr<Session>& session, const Operation* operation,
              const wire::RequestView& request, uint64_t connection, std::span<std::byte> data_room, std::vector<Payload>& payloads,
              wire::ReplyBuilder& reply);

// Fills the header of a reply to `request`.
void complete_header(ServerState& server, const wire::RequestView& request, int status, wire::ReplyBuilder& reply);

}  // namespace voldfs::server
