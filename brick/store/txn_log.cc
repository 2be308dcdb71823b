#include "brick/store/txn_log.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

#include "brick/store/credentials.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"

namespace voldfs::store {
namespace {

constexpr std::string_view kStubSuffix = ".stub";

// T.stub is a link of T until the commit puts it in place; an exchange leaves there what it replaced.
bool has_prepared_stub(int dir, const Id& txn) {
  struct stat record, stub;
  return fstatat(dir, txn.hex().c_str(), &record, AT_SYMLINK_NOFOLLOW) == 0 &&
         fstatat(dir, stub_name(txn).c_str(), &stub, AT_SYMLINK_NOFOLLOW) == 0 && record.st_ino == stub.st_ino;
}

Result<TxnValue> read_value(int dir, const std::string& name) {
  std::array<std::byte, kRecordMax> value;
  auto size = get_xattr_at(dir, name.c_str(), kXattrTxn, value);
  if (!size && size.error().code == ENOENT) return fail(wire::kTxnUnknown);
  if (!size) return fail(size.error().code == ENODATA ? Error(EIO) : size.error());
  return decode_txn(std::span(value).first(*size));
}

Result<TxnValue> with_state(int dir, TxnValue txn) {
  if (txn.record.state == wire::TxnState::kAborted) return txn;
  const bool prepared = has_prepared_stub(dir, txn.record.txn);
  txn.record.state = prepared ? wire::TxnState::kPrepared : wire::TxnState::kCommitted;
  return txn;
}

Result<std::vector<std::string>> names_in(int dir) {
  const int own = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return fail_errno();
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own), closedir);
  if (!stream) return fail_errno();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0) return fail_errno();
  return names;
}

}  // namespace

std::string stub_name(const Id& txn) { return txn.hex() + std::string(kStubSuffix); }

Result<TxnValue> read_txn(const Store& store, const Id& txn) {
  auto value = read_value(store.txn(), txn.hex());
  if (!value) return value;
  return with_state(store.txn(), std::move(*value));
}

Result<void> write_txn(const Store& store, const TxnValue& txn, const wire::Link& link) {
  RootScope scope;
  const std::string name = txn.record.txn.hex();
  const std::string stub = stub_name(txn.record.txn);
  unlinkat(store.tmp(), name.c_str(), 0);  // of an attempt that failed
  unique_fd fd(openat(store.tmp(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0));
  if (!fd) return fail_errno();
  if (fchmod(fd.get(), kStubMode) != 0) return fail_errno();
  TxnValue stored = txn;
  stored.record.state = wire::TxnState::kPrepared;
  if (auto set = set_xattr(fd.get(), kXattrLink, encode_link(link)); !set) return set;
  if (auto set = set_xattr(fd.get(), kXattrTxn, encode_txn(stored)); !set) return set;
  // The stub first: a record without one would say "committed".
  unlinkat(store.txn(), stub.c_str(), 0);
  if (linkat(store.tmp(), name.c_str(), store.txn(), stub.c_str(), 0) != 0) return fail_errno();
  if (renameat2(store.tmp(), name.c_str(), store.txn(), name.c_str(), RENAME_NOREPLACE) != 0) return fail_errno();
  return {};
}

Result<void> abort_txn(const Store& store, const Id& txn) {
  auto value = read_value(store.txn(), txn.hex());
  if (!value) return fail(value.error());
  value->record.state = wire::TxnState::kAborted;
  auto set = set_xattr_at(store.txn(), txn.hex().c_str(), kXattrTxn, encode_txn(*value));
  if (!set) return set;
  if (unlinkat(store.txn(), stub_name(txn).c_str(), 0) != 0 && errno != ENOENT) return fail_errno();
  return {};
}

Result<void> finish_txn(const Store& store, const Id& txn) {
  const std::string name = txn.hex();
  unique_fd fd(openat(store.txn(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return {};
  if (!fd) return fail_errno();
  auto value = read_xattr(fd.get(), kXattrLink);
  if (!value) return fail(value.error());
  auto link = decode_link(*value);
  if (!link) return fail(link.error());
  link->state = wire::LinkState::kCommitted;
  if (auto set = set_xattr(fd.get(), kXattrLink, encode_link(*link)); !set) return set;
  if (unlinkat(store.txn(), name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno();
  // Last, for without it the record would be damaged. What stays of a kill here is of no consequence.
  auto removed = remove_xattr(fd.get(), kXattrTxn);
  if (!removed && removed.error().code != ENODATA) return removed;
  return {};
}

Result<void> each_txn(const Store& store, const std::function<bool(const TxnValue&)>& visit) {
  auto names = names_in(store.txn());
  if (!names) return fail(names.error());
  for (const std::string& name : *names) {
    auto id = Id::parse(name);
    if (!id) continue;
    auto txn = read_txn(store, *id);
    if (!txn && txn.error().code == wire::kTxnUnknown) continue;  // finished meanwhile
    if (!txn) return fail(txn.error());
    if (!visit(*txn)) return {};
  }
  return {};
}

bool has_older_txn(const Store& store, uint32_t age_ms) {
  auto names = names_in(store.txn());
  if (!names) return false;
  const time_t oldest = time(nullptr) - age_ms / 1000 - 1;
  return std::any_of(names->begin(), names->end(), [&](const std::string& name) {
    struct stat stat;
    return Id::parse(name) && fstatat(store.txn(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 && stat.st_mtime <= oldest;
  });
}

Result<void> sweep_unprepared(int txn) {
  auto names = names_in(txn);
  if (!names) return fail(names.error());
  for (const std::string& name : *names) {
    if (!name.ends_with(kStubSuffix)) continue;
    const std::string record = name.substr(0, name.size() - kStubSuffix.size());
    auto value = read_value(txn, record);
    const bool unknown = !value && value.error().code == wire::kTxnUnknown;
    const bool aborted = value && value->record.state == wire::TxnState::kAborted;
    struct stat stat;
    const bool is_stub = fstatat(txn, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(stat.st_mode) &&
                         get_xattr_at(txn, name.c_str(), kXattrTxn, {}).has_value();
    if (!(unknown || aborted) || !is_stub) continue;
    spdlog::info("txn-unprepared txn={}", record);
    if (unlinkat(txn, name.c_str(), 0) != 0) return fail_errno();
  }
  return {};
}

}  // namespace voldfs::store
