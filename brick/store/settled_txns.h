#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::store {

// Of which transactions the cleanup of an object has been here: its file brought to its new path, or taken away. Several clients may clean up
// behind one transaction, and a request of one of them may come late: when another has finished it, and the names have changed
// again. It must find that there is nothing left for it to do.
//
// `.voldfs/settled` (FORMAT.md), mapped: it outlives kill -9, as requests do that wait for the brick, and records of transactions that a
// brick which was down has kept. Of a bucket's entries the newest are kept; thousands of transactions come and go before one is
// forgotten. Any thread.
class SettledTxns {
 public:
  // Where the disk is full, in memory alone.
  static Result<std::unique_ptr<SettledTxns>> open(int dot);
  ~SettledTxns();
  SettledTxns(const SettledTxns&) = delete;
  SettledTxns& operator=(const SettledTxns&) = delete;

  // No transaction: nothing is noted, and nothing is known.
  void add(const Id& txn, const Id& object);
  bool contains(const Id& txn, const Id& object) const;

 private:
  static constexpr size_t kBuckets = 8'192, kEntries = 8;  // a bucket
  struct Bucket {
    Id entries[kEntries];  // newest first; none: not used yet
  };
  static constexpr size_t kBytes = kBuckets * sizeof(Bucket);

  explicit SettledTxns(void* memory) : buckets_(static_cast<Bucket*>(memory)) {}
  Bucket& bucket(const Id& entry) const;

  mutable std::mutex mutex_;
  Bucket* const buckets_;  // guarded by mutex_
};

}  // namespace voldfs::store
