#pragma once

#include <string>

#include "brick/server/operation.h"

// What concerns the brick itself: kMapGet, kMapPut, kStatus.
namespace voldfs::server {

Result<void> op_map_get(Call& call);
Result<void> op_map_put(Call& call);
Result<void> op_status(Call& call);

// What monitoring reads, in Prometheus' text format: operations, and what each client has asked for.
std::string prometheus_document(ServerState& server);
// The document that kStatus answers, for people and monitoring: JSON.
std::string status_document(ServerState& server);

}  // namespace voldfs::server
