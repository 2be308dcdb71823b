#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace voldfs {

// Counts of one kind of operation. Always on; relaxed counters, so sums may be a request apart. Any thread.
struct OperationMetrics {
  static constexpr size_t kBuckets = 26;  // bucket n: below 2^n microseconds; the last: everything longer

  std::atomic<uint64_t> count{0}, errors{0}, replayed{0}, microseconds{0};
  std::atomic<uint64_t> bytes_in{0}, bytes_out{0};
  std::array<std::atomic<uint64_t>, kBuckets> latency{};

  void add(int status, int64_t duration_us, uint64_t in, uint64_t out);
  // The bound of the bucket that the given share (0 to 1) of the requests stays below; 0: there were none.
  uint64_t quantile_us(double share) const;
};

// Prometheus' text exposition format, version 0.0.4. Every sample carries the labels that the constructor got.
class Exposition {
 public:
  // `prefix` begins every name. `labels`: KEY="VALUE" separated by commas, or empty.
  Exposition(std::string prefix, std::string labels) : prefix_(std::move(prefix)), labels_(std::move(labels)) {}

  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(std::string_view name, std::string_view labels, uint64_t value);
  // Buckets, sum and count of the durations; `name` without _bucket.
  void histogram(std::string_view name, std::string_view labels, const OperationMetrics& counts);
  std::string take() { return std::move(text_); }

 private:
  const std::string prefix_, labels_;
  std::string text_;
};

std::string label(std::string_view key, std::string_view value);  // KEY="VALUE", escaped

}  // namespace voldfs
