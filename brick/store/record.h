#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "brick/base/result.h"
#include "brick/wire/types.h"

// The values of `trusted.voldfs.*` (FORMAT.md, "Extended attributes"): to and from the structures of the wire.
// Decoding trusts nothing: EIO for a value that this version does not understand.
namespace voldfs::store {

inline constexpr char kXattrId[] = "trusted.voldfs.id";
inline constexpr char kXattrDir[] = "trusted.voldfs.dir";
inline constexpr char kXattrLink[] = "trusted.voldfs.link";
inline constexpr char kXattrLeaving[] = "trusted.voldfs.leaving";
inline constexpr char kXattrName[] = "trusted.voldfs.name";
inline constexpr char kXattrTxn[] = "trusted.voldfs.txn";

inline constexpr size_t kRecordMax = 1024;      // bytes of any of the values here
inline constexpr uint32_t kStubMode = 01000;    // S_IFREG aside

using Bytes = std::vector<std::byte>;

Bytes encode_directory(const wire::DirRecord& record);
Result<wire::DirRecord> decode_directory(std::span<const std::byte> value, const Id& id);

Bytes encode_link(const wire::Link& link);
Result<wire::Link> decode_link(std::span<const std::byte> value);

// An old name's mark: the transaction that it takes part in and who decides that. Also the value of trusted.voldfs.name: no
// transaction, and the brick of home.
struct Leaving {
  Id parent;
  Id txn;
  Id authority;
  std::string name;
};
Bytes encode_leaving(const Leaving& mark);
Result<Leaving> decode_leaving(std::span<const std::byte> value);

struct TxnValue {
  wire::TxnRecord record{};
  std::string old_name, new_name;
};
Bytes encode_txn(const TxnValue& txn);
Result<TxnValue> decode_txn(std::span<const std::byte> value);

}  // namespace voldfs::store
