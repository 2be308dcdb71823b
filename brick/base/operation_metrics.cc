#include "brick/base/operation_metrics.h"

#include <algorithm>
#include <bit>

namespace voldfs {

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

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
  text_.append("# HELP ").append(prefix_).append(name).append(" ").append(help).append("\n");
  text_.append("# TYPE ").append(prefix_).append(name).append(" ").append(type).append("\n");
}

void Exposition::sample(std::string_view name, std::string_view labels, uint64_t value) {
  text_.append(prefix_).append(name);
  if (!labels_.empty() || !labels.empty()) {
    text_.append("{").append(labels_).append(labels_.empty() || labels.empty() ? "" : ",").append(labels).append("}");
  }
  text_.append(" ").append(std::to_string(value)).append("\n");
}

void Exposition::histogram(std::string_view name, std::string_view labels, const OperationMetrics& counts) {
  const std::string own(name), separator = labels.empty() ? "" : ",";
  uint64_t sum = 0;
  for (size_t i = 0; i < OperationMetrics::kBuckets; ++i) {
    sum += counts.latency[i].load(std::memory_order_relaxed);
    const bool last = i + 1 == OperationMetrics::kBuckets;
    sample(own + "_bucket", std::string(labels) + separator + label("le", last ? "+Inf" : std::to_string(uint64_t{1} << i)), sum);
  }
  sample(own + "_sum", labels, counts.microseconds.load(std::memory_order_relaxed));
  sample(own + "_count", labels, sum);
}

std::string label(std::string_view key, std::string_view value) {
  std::string text(key);
  text += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') text += "\\n";
    else text += c;
  }
  return text + '"';
}

}  // namespace voldfs
