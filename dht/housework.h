#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "dht/volume_impl.h"

// What nobody waits for and somebody has to do, each piece for one brick: blocking, slow on purpose, and ended early by `stop`.
// What is done twice, or by two at once, does no harm. dht/maintenance.h decides when.
namespace voldfs::dht {

class Housework {
 public:
  // `own`: ordinal of the brick that is looked after.
  Housework(Volume::Impl& volume, uint16_t own, const std::atomic<bool>& stop);

  // Ends the transactions at the brick whose drivers are dead.
  Result<void> settle();

  // What lies on the brick and no name leads to: files whose stub is gone (an unlink that was cut), copies of a directory that its
  // home never made (a mkdir that was cut). Looks; what it finds may be somebody's work in progress.
  struct Orphan {
    Id dir;             // that it lies in; of a copy: its own id
    std::string name;   // empty: it is a directory's copy
    Id object;
    friend bool operator==(const Orphan&, const Orphan&) = default;
  };
  Result<std::vector<Orphan>> find_orphans();
  // Takes those away that are orphans still, and of which no transaction speaks. Call it later than any client lives that had a hand
  // in them when they were found.
  Result<size_t> park_orphans(const std::vector<Orphan>& orphans);

  // After the brick's host went down while it served: names that other bricks have something for and the brick does not know any more
  // are led to again; stubs that lead to nothing are parked. True: nothing is missing any more.
  Result<bool> scrub();

  // Brings together what bricks had before voldfs, as far as this brick is home of it (adoption.h). True: there is no more.
  Result<bool> adopt();

 private:
  using VisitDirectory = std::function<Result<void>(const NodePtr& dir, const wire::DirRecord& here)>;
  using VisitEntry = std::function<Result<void>(const NodePtr& dir, const wire::DirentHeader& header, std::string_view name)>;
  Result<void> each_directory(uint16_t ordinal, const VisitDirectory& visit);
  Result<void> each_entry(uint16_t ordinal, const NodePtr& dir, const VisitEntry& visit);
  Result<void> each_name(uint16_t ordinal, const VisitEntry& visit);
  Result<bool> is_orphan(const Orphan& orphan);
  Result<bool> is_spoken_for(const Orphan& orphan);
  Result<bool> leads_nowhere(const NodePtr& dir, std::string_view name);
  Result<void> pause() const;

  Volume::Impl& volume_;
  const uint16_t own_;
  const std::atomic<bool>& stop_;
  Caller caller_;
};

}  // namespace voldfs::dht
