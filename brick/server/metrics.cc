#include "brick/server/metrics.h"

#include <algorithm>
#include <bit>
#include <string_view>

namespace voldfs::server {

namespace {

void append(std::string& out, std::string_view name, std::string_view labels, uint64_t value) {
  out.append("voldfs_brick_").append(name);
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out.append(" ").append(std::to_string(value)).append("\n");
}

void append_type(std::string& out, std::string_view name, std::string_view type) {
  out.append("# TYPE voldfs_brick_").append(name).append(" ").append(type).append("\n");
}

}  // namespace

void OperationMetrics::add(int status, int64_t duration_us, uint64_t in, uint64_t out) {
  constexpr auto relaxed = std::memory_order_relaxed;
  const auto us = static_cast<uint64_t>(std::max<int64_t>(duration_us, 0));
  count.fetch_add(1, relaxed);
  if (status != 0) errors.fetch_add(1, relaxed);
  microseconds.fetch_add(us, relaxed);
  if (in != 0) bytes_in.fetch_add(in, relaxed);
  if (out != 0) bytes_out.fetch_add(out, relaxed);
  latency[std::min<size_t>(std::bit_width(us), kBuckets - 1)].fetch_add(1, relaxed);
}

uint64_t OperationMetrics::quantile_us(double share) const {
  uint64_t total = 0;
  for (const auto& bucket : latency) total += bucket.load(std::memory_order_relaxed);
  if (total == 0) return 0;
  const auto wanted = static_cast<uint64_t>(share * static_cast<double>(total));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += latency[i].load(std::memory_order_relaxed);
    if (seen > wanted || seen == total) return uint64_t{1} << i;
  }
  return uint64_t{1} << kBuckets;
}

std::string Metrics::prometheus() const {
  constexpr auto relaxed = std::memory_order_relaxed;
  std::string out;
  append_type(out, "connections", "gauge");
  append(out, "connections", "", connections.load(relaxed));
  append_type(out, "connections_refused_total", "counter");
  append(out, "connections_refused_total", "", connections_refused.load(relaxed));
  append_type(out, "protocol_errors_total", "counter");
  append(out, "protocol_errors_total", "", protocol_errors.load(relaxed));
  append_type(out, "sessions_expired_total", "counter");
  append(out, "sessions_expired_total", "", sessions_expired.load(relaxed));
  append_type(out, "descriptors_handed_out_total", "counter");
  append(out, "descriptors_handed_out_total", "", descriptors.load(relaxed));

  using Field = std::atomic<uint64_t> OperationMetrics::*;
  constexpr std::pair<std::string_view, Field> kFields[] = {
      {"operation_errors_total", &OperationMetrics::errors},
      {"operation_replayed_total", &OperationMetrics::replayed},
      {"operation_received_bytes_total", &OperationMetrics::bytes_in},
      {"operation_sent_bytes_total", &OperationMetrics::bytes_out},
  };
  for (const auto& [name, field] : kFields) {
    append_type(out, name, "counter");
    for (const wire::OpInfo& info : wire::all_op_infos()) {
      const OperationMetrics& counts = operation(info.op);
      if (counts.count.load(relaxed) == 0) continue;
      append(out, name, "operation=\"" + std::string(info.name) + "\"", (counts.*field).load(relaxed));
    }
  }
  append_type(out, "operation_microseconds", "histogram");
  for (const wire::OpInfo& info : wire::all_op_infos()) {
    const OperationMetrics& counts = operation(info.op);
    if (counts.count.load(relaxed) == 0) continue;
    const std::string label = "operation=\"" + std::string(info.name) + "\"";
    uint64_t sum = 0;
    for (size_t i = 0; i < OperationMetrics::kBuckets; ++i) {
      sum += counts.latency[i].load(relaxed);
      const bool last = i + 1 == OperationMetrics::kBuckets;
      const std::string bound = last ? "+Inf" : std::to_string(uint64_t{1} << i);
      append(out, "operation_microseconds_bucket", label + ",le=\"" + bound + "\"", sum);
    }
    append(out, "operation_microseconds_sum", label, counts.microseconds.load(relaxed));
    append(out, "operation_microseconds_count", label, sum);
  }
  return out;
}

}  // namespace voldfs::server
