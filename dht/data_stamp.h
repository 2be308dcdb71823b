#pragma once

#include <ctime>

#include "brick/wire/types.h"
#include "dht/grant.h"

namespace voldfs::dht {

// What a file looked like when its pages in the kernel's cache were last known to be its content. A change of size, mtime
// or ctime since then means that they may not be.
struct DataStamp {
  uint64_t size = 0;
  int64_t mtime = 0, ctime = 0;
  uint32_t mtime_ns = 0, ctime_ns = 0;
  bool known = false;
  bool settled = false;  // old enough that a further change would show in its times
  Grant grant;           // while it holds, nobody else has changed the file

  static DataStamp of(const wire::Attr& attr, const Grant& grant) {
    DataStamp stamp{attr.size, attr.mtime, attr.ctime, attr.mtime_ns, attr.ctime_ns, attr.mode != 0 && !(attr.flags & wire::kAttrPinned), false, grant};
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    stamp.settled = attr.ctime + kAgeMinS < now.tv_sec;
    return stamp;
  }
  bool is_as(const DataStamp& other) const {
    return known && other.known && size == other.size && mtime == other.mtime && mtime_ns == other.mtime_ns &&
           ctime == other.ctime && ctime_ns == other.ctime_ns;
  }

 private:
  // Younger changes may be followed by one with the same time stamp: file systems before Linux 6.13 count it in
  // ticks of up to 10 ms, and clocks differ.
  static constexpr int64_t kAgeMinS = 1;
};

}  // namespace voldfs::dht
