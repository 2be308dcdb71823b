#include "brick/server/metrics.h"

#include <string_view>

namespace voldfs::server {

void Metrics::expose(Exposition& text) const {
  constexpr auto relaxed = std::memory_order_relaxed;
  const auto one = [&](std::string_view name, std::string_view type, std::string_view help, uint64_t value) {
    text.family(name, type, help);
    text.sample(name, "", value);
  };
  one("connections", "gauge", "Open connections.", connections.load(relaxed));
  one("connections_refused_total", "counter", "Connections over a limit, or that failed the handshake.", connections_refused.load(relaxed));
  one("protocol_errors_total", "counter", "Frames that closed their connection.", protocol_errors.load(relaxed));
  one("sessions_expired_total", "counter", "Clients that were not heard of for too long.", sessions_expired.load(relaxed));
  one("descriptors_handed_out_total", "counter", "Files that local clients read and write by themselves.", descriptors.load(relaxed));

  using Field = std::atomic<uint64_t> OperationMetrics::*;
  struct Counter {
    std::string_view name;
    Field field;
    std::string_view help;
  };
  constexpr Counter kCounters[] = {
      {"operation_errors_total", &OperationMetrics::errors, "Operations that failed."},
      {"operation_replayed_total", &OperationMetrics::replayed, "Operations answered from memory, for they were sent again."},
      {"operation_received_bytes_total", &OperationMetrics::bytes_in, "Payload received."},
      {"operation_sent_bytes_total", &OperationMetrics::bytes_out, "Payload sent."},
  };
  for (const Counter& counter : kCounters) {
    text.family(counter.name, "counter", counter.help);
    for (const wire::OpInfo& info : wire::all_op_infos()) {
      const OperationMetrics& counts = operation(info.op);
      if (counts.count.load(relaxed) != 0) text.sample(counter.name, label("operation", info.name), (counts.*counter.field).load(relaxed));
    }
  }
  text.family("operation_microseconds", "histogram", "How long operations took, from the request's receipt to its reply.");
  for (const wire::OpInfo& info : wire::all_op_infos()) {
    const OperationMetrics& counts = operation(info.op);
    if (counts.count.load(relaxed) != 0) text.histogram("operation_microseconds", label("operation", info.name), counts);
  }
}

}  // namespace voldfs::server
