#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "brick/base/operation_metrics.h"
#include "brick/wire/op_info.h"

namespace voldfs::server {

// What a brick has done since its start. Always on; relaxed counters, so sums may be a request apart.
class Metrics {
 public:
  OperationMetrics& operation(wire::Op op) { return operations_[static_cast<size_t>(op) % kOperations]; }
  const OperationMetrics& operation(wire::Op op) const { return operations_[static_cast<size_t>(op) % kOperations]; }

  std::atomic<uint64_t> connections{0};             // open now
  std::atomic<uint64_t> connections_refused{0};     // over a limit, or failed the handshake
  std::atomic<uint64_t> protocol_errors{0};         // frames that closed their connection
  std::atomic<uint64_t> sessions_expired{0};
  std::atomic<uint64_t> descriptors{0};             // handed out

  void expose(Exposition& text) const;

 private:
  static constexpr size_t kOperations = 256;
  std::array<OperationMetrics, kOperations> operations_;
};

}  // namespace voldfs::server
