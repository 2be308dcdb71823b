#pragma once

#include <cstddef>
#include <cstdint>

// Every bound of the client that is no option (ClientOptions has those).
namespace voldfs::client {

inline constexpr size_t kInput = 8 * 1024;                // any reply's header and front, or a small whole one
inline constexpr int kUnixSocketBuffer = 4 << 20;
inline constexpr uint32_t kBackoffFirstMs = 10;           // between attempts to reach a brick, doubled up to the last
inline constexpr uint32_t kBackoffLastMs = 1'000;
inline constexpr uint32_t kPollFirstMs = 5;               // between two questions after kSlotBusy or kGrace
inline constexpr uint32_t kPollLastMs = 100;
inline constexpr int64_t kKilledMs = 500;                // between two looks at whether the caller is being killed
inline constexpr uint32_t kInterruptMs = 50;              // between two looks at Caller::interrupted
inline constexpr uint32_t kOvercommitMs = 20;             // wait for a connection, before one beyond the usual number is opened
inline constexpr uint32_t kByeMs = 1'000;                 // for the answer to kBye
inline constexpr uint32_t kHeartbeatsPerLease = 3;

}  // namespace voldfs::client
