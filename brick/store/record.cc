#include "brick/store/record.h"

#include <algorithm>
#include <cstring>

namespace voldfs::store {
namespace {

constexpr uint16_t kFormat = 1;
constexpr uint16_t kFormatWithTimes = 2;  // of a directory's record

// Fields one after the other, as FORMAT.md lists them; all of them little-endian and unaligned.
class Writer {
 public:
  template <class T>
  Writer& put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return put_bytes(&value, sizeof value);
  }
  Writer& put_bytes(const void* data, size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
    return *this;
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T get() {
    T value{};
    get_bytes(&value, sizeof value);
    return value;
  }
  void get_bytes(void* into, size_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      return;
    }
    std::memcpy(into, rest_.data(), size);
    rest_ = rest_.subspan(size);
  }
  std::string get_text(size_t size) {
    std::string text(std::min(size, rest_.size()), '\0');
    get_bytes(text.data(), size);
    return text;
  }
  // Everything was there, and nothing else.
  bool complete() const { return ok_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace

Bytes encode_directory(const wire::DirRecord& record) {
  uint16_t set_size = sizeof record.set.bits;
  while (set_size > 0 && record.set.bits[set_size - 1] == 0) --set_size;
  Writer writer;
  writer.put(record.times_change != 0 ? kFormatWithTimes : kFormat).put(record.role).put(record.state).put(record.epoch).put(record.home).put(record.backup);
  writer.put(record.home_generation).put(record.change).put(record.subdirectories);
  writer.put(record.parent).put(record.txn).put(set_size).put(uint16_t{0});
  if (record.times_change != 0) writer.put(record.times_change);
  return writer.put_bytes(record.set.bits, set_size).take();
}

Result<wire::DirRecord> decode_directory(std::span<const std::byte> value, const Id& id) {
  Reader reader(value);
  wire::DirRecord record{};
  const auto format = reader.get<uint16_t>();
  record.id = id;
  record.role = reader.get<uint8_t>();
  const auto state = reader.get<uint8_t>();
  record.epoch = reader.get<uint32_t>();
  record.home = reader.get<uint16_t>();
  record.backup = reader.get<uint16_t>();
  record.home_generation = reader.get<uint32_t>();
  record.change = reader.get<uint64_t>();
  record.subdirectories = reader.get<uint32_t>();
  record.parent = reader.get<Id>();
  record.txn = reader.get<Id>();
  const auto set_size = reader.get<uint16_t>();
  const auto zero = reader.get<uint16_t>();
  if (format == kFormatWithTimes) record.times_change = reader.get<uint32_t>();
  if (set_size > sizeof record.set.bits) return fail(EIO);
  reader.get_bytes(record.set.bits, set_size);
  if (!reader.complete() || (format != kFormat && format != kFormatWithTimes) || zero != 0) return fail(EIO);
  if (state > static_cast<uint8_t>(wire::DirState::kMoving)) return fail(EIO);
  record.state = static_cast<wire::DirState>(state);
  return record;
}

Bytes encode_link(const wire::Link& link) {
  Writer writer;
  writer.put(kFormat).put(link.state).put(link.type).put(uint32_t{0});
  writer.put(link.brick).put(link.object).put(link.txn);
  writer.put(link.handle.size).put(link.handle.reserved).put(link.handle.type).put(link.handle.mac);
  return writer.put_bytes(link.handle.bytes, std::min<size_t>(link.handle.size, sizeof link.handle.bytes)).take();
}

Result<wire::Link> decode_link(std::span<const std::byte> value) {
  Reader reader(value);
  wire::Link link{};
  const auto format = reader.get<uint16_t>();
  link.state = reader.get<wire::LinkState>();
  link.type = reader.get<wire::ObjectType>();
  reader.get<uint32_t>();
  link.brick = reader.get<Id>();
  link.object = reader.get<Id>();
  link.txn = reader.get<Id>();
  link.handle.size = reader.get<uint8_t>();
  uint8_t zero[3];
  reader.get_bytes(zero, sizeof zero);
  link.handle.type = reader.get<int32_t>();
  link.handle.mac = reader.get<uint64_t>();
  if (link.handle.size > sizeof link.handle.bytes) return fail(EIO);
  reader.get_bytes(link.handle.bytes, link.handle.size);
  if (!reader.complete() || format != kFormat || link.object.is_none()) return fail(EIO);
  if (link.state != wire::LinkState::kCommitted && link.state != wire::LinkState::kPending) return fail(EIO);
  return link;
}

Bytes encode_leaving(const Leaving& mark) {
  Writer writer;
  writer.put(kFormat).put(static_cast<uint16_t>(mark.name.size()));
  writer.put(mark.parent).put(mark.txn).put(mark.authority);
  return writer.put_bytes(mark.name.data(), mark.name.size()).take();
}

Result<Leaving> decode_leaving(std::span<const std::byte> value) {
  Reader reader(value);
  Leaving mark;
  const auto format = reader.get<uint16_t>();
  const auto name_size = reader.get<uint16_t>();
  mark.parent = reader.get<Id>();
  mark.txn = reader.get<Id>();
  mark.authority = reader.get<Id>();
  mark.name = reader.get_text(name_size);
  if (!reader.complete() || format != kFormat) return fail(EIO);
  return mark;
}

Bytes encode_txn(const TxnValue& txn) {
  Writer writer;
  writer.put(kFormat).put(static_cast<uint16_t>(txn.old_name.size()));
  writer.put(static_cast<uint16_t>(txn.new_name.size())).put(uint16_t{0});
  writer.put(txn.record);
  writer.put_bytes(txn.old_name.data(), txn.old_name.size());
  return writer.put_bytes(txn.new_name.data(), txn.new_name.size()).take();
}

Result<TxnValue> decode_txn(std::span<const std::byte> value) {
  Reader reader(value);
  TxnValue txn;
  const auto format = reader.get<uint16_t>();
  const auto old_size = reader.get<uint16_t>();
  const auto new_size = reader.get<uint16_t>();
  const auto zero = reader.get<uint16_t>();
  txn.record = reader.get<wire::TxnRecord>();
  txn.old_name = reader.get_text(old_size);
  txn.new_name = reader.get_text(new_size);
  if (!reader.complete() || format != kFormat || zero != 0) return fail(EIO);
  return txn;
}

}  // namespace voldfs::store
