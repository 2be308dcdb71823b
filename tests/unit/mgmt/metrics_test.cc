#include "mgmt/metrics.h"

#include <gtest/gtest.h>

namespace voldfs::mgmt {
namespace {

TEST(MergeExpositionsTest, Families_AppearOnceWithAllSamples) {
  const std::string a = "# HELP x Help.\n# TYPE x counter\nx{b=\"1\"} 1\n# HELP y Help.\n# TYPE y histogram\ny_sum 2\n";
  const std::string b = "stray 5\n# HELP x Help.\n# TYPE x counter\nx{b=\"2\"} 3\n\n";
  EXPECT_EQ(merge_expositions({a, b}),
            "# HELP x Help.\n# TYPE x counter\nx{b=\"1\"} 1\nx{b=\"2\"} 3\n# HELP y Help.\n# TYPE y histogram\ny_sum 2\n");
  EXPECT_EQ(merge_expositions({}), "");
}

}  // namespace
}  // namespace voldfs::mgmt
