#include "brick/store/settled_txns.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "brick/base/unique_fd.h"

namespace voldfs::store {
namespace {

constexpr char kFile[] = "settled";

// Both are random.
Id entry_of(const Id& txn, const Id& object) {
  Id entry = txn;
  for (size_t i = 0; i < entry.bytes.size(); ++i) entry.bytes[i] ^= object.bytes[i];
  return entry;
}

// Its blocks too, so that a full disk is met here and not as SIGBUS later.
Result<void*> map_file(int dot, size_t bytes) {
  const unique_fd fd(openat(dot, kFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno();
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return fail_errno();
  if (stat.st_size != static_cast<off_t>(bytes) && ftruncate(fd.get(), 0) != 0) return fail_errno();
  if (const int error = posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)); error != 0) return fail(error);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return fail_errno();
  return memory;
}

}  // namespace

Result<std::unique_ptr<SettledTxns>> SettledTxns::open(int dot) {
  auto memory = map_file(dot, kBytes);
  if (!memory) {
    spdlog::warn("settled_volatile error={}: late cleanups will not be recognized over a restart of the brick", memory.error().code);
    void* const own = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) return fail_errno();
    memory = own;
  }
  return std::unique_ptr<SettledTxns>(new SettledTxns(*memory));
}

SettledTxns::~SettledTxns() { munmap(buckets_, kBytes); }

SettledTxns::Bucket& SettledTxns::bucket(const Id& entry) const {
  uint32_t hash;
  std::memcpy(&hash, entry.bytes.data(), sizeof hash);
  return buckets_[hash % kBuckets];
}

void SettledTxns::add(const Id& txn, const Id& object) {
  if (txn.is_none()) return;
  const Id entry = entry_of(txn, object);
  std::lock_guard lock(mutex_);
  Id* const entries = bucket(entry).entries;
  Id* const known = std::find(entries, entries + kEntries - 1, entry);  // or the oldest
  std::move_backward(entries, known, known + 1);
  entries[0] = entry;
}

bool SettledTxns::contains(const Id& txn, const Id& object) const {
  if (txn.is_none()) return false;
  const Id entry = entry_of(txn, object);
  std::lock_guard lock(mutex_);
  const Bucket& known = bucket(entry);
  return std::find(std::begin(known.entries), std::end(known.entries), entry) != std::end(known.entries);
}

}  // namespace voldfs::store
