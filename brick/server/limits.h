#pragma once

#include <cstddef>
#include <cstdint>

#include "brick/wire/types.h"

// Every bound of the server that is no option. What happens at a bound stands beside it.
namespace voldfs::server {

// Connections and lanes
inline constexpr uint32_t kConnectionsMaxDefault = 4096;        // of all sessions; beyond: closed at once, logged
inline constexpr uint32_t kConnectionsPerSessionMax = wire::kSlotsMax + 8;  // beyond: EUSERS at the handshake
inline constexpr uint32_t kUnauthenticatedMax = 256;            // connections in the handshake; beyond: closed at once
inline constexpr int64_t kHandshakeMs = 5'000;                  // to its end; then closed
inline constexpr int64_t kFrameMs = 30'000;                     // from a request's first byte to its last; then closed
inline constexpr int64_t kSendMs = 30'000;                      // until a reply has left; then closed
inline constexpr size_t kLaneStack = 256 * 1024;
inline constexpr unsigned kLaneRingEntries = 8;
inline constexpr size_t kLaneInput = 8 * 1024;                  // any request's header and front, or a small whole one
inline constexpr int kListenBacklog = 512;
inline constexpr size_t kSpreadTransfer = 128 * 1024;           // payload from which lane and client are better on two CPUs
inline constexpr int kUnixSocketBuffer = 4 << 20;

// Payload buffers of wire::kDataMax bytes, shared by all lanes; a lane that finds none waits.
inline constexpr size_t kPayloadBuffers = 32;

// Sessions
inline constexpr size_t kSessionsMax = 1024;                    // beyond: EUSERS at the handshake
inline constexpr uint32_t kLeaseMsDefault = 20'000;
inline constexpr int64_t kHousekeepingMs = 200;                 // between two looks at leases and grace
inline constexpr int64_t kTombstoneSweepMs = 3'600'000;        // between two looks for tombstones that have had their time
inline constexpr int64_t kSlotWaitMs = 1'000;                   // for a slot's running request; then kSlotBusy
inline constexpr size_t kNotificationsMax = 4096;               // not yet acknowledged; beyond: the session ends

// Grants that are out at a time; beyond: answers without one.
inline constexpr size_t kLeasesMax = 131'072;

// Locks
inline constexpr size_t kLocksPerSessionMax = 65'536;           // ranges held or waited for; beyond: ENOLCK

}  // namespace voldfs::server
