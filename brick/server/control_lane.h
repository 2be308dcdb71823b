#pragma once

#include <memory>

#include "brick/server/server_state.h"

namespace voldfs::server {

// Serves a session's control connection until it is closed, another one takes its place, or the session ends: answers
// heartbeats, sends notifications, takes acknowledgements. In the lane's thread, with plain system calls: it carries a
// few messages a second, and must wait for the socket and for other threads' notifications at once. `token`: of Notifications::attach().
void serve_control(ServerState& server, const std::shared_ptr<Session>& session, int socket, uint64_t token);

}  // namespace voldfs::server
