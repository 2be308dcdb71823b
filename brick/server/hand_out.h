#pragma once

#include <memory>

#include "brick/server/server_state.h"
#include "brick/store/open_files.h"

namespace voldfs::server {

// After an open was carried out and before anybody is told: adds its descriptor to the reply if the request asks for it and the file
// is one that may be handed out, and pins the file (WIRE.md, "Descriptors"). A reclaimed open is pinned alone. True: it is pinned now, and
// nobody else has a grant of it.
bool hand_out(ServerState& server, const std::shared_ptr<Session>& session, const wire::RequestView& request,
              wire::ReplyBuilder& reply);

// An open has ended; `released`: by its client's word.
void take_back(ServerState& server, std::shared_ptr<store::OpenFile> closed, bool released);

}  // namespace voldfs::server
