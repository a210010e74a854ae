// Attributes as the kernel sends them, and as nobody should; and the kernel's own controller, which every kernel has.
#include "native/core/generic-netlink.h"

#include <errno.h>
#include <linux/genetlink.h>

#include <thread>

#include "check.h"

namespace keepgate {
namespace {

size_t Count(const NetlinkBytes& bytes, bool* whole) {
  size_t count = 0;
  *whole = EachAttribute(bytes.data(), bytes.size(), [&](uint16_t, const uint8_t*, size_t) { ++count; });
  return count;
}

TEST(AttributesAreReadToTheirEndAndNotBeyond) {
  bool whole = false;
  CHECK(Count({}, &whole) == 0 && whole);
  // Lengths 5 (padded), 4 (empty) and 6 (the last one needs no padding).
  CHECK(Count({5, 0, 1, 0, 9, 0, 0, 0, 4, 0, 2, 0, 6, 0, 3, 0, 1, 2}, &whole) == 3 && whole);
  CHECK(Count({5, 0, 1, 0, 9, 0, 0, 0, 4, 0, 2}, &whole) == 1 && !whole);  // cut within a header
  CHECK(Count({9, 0, 1, 0, 9, 0, 0, 0}, &whole) == 0 && !whole);           // longer than what is there
  CHECK(Count({3, 0, 1, 0}, &whole) == 0 && !whole);                       // shorter than its header
  CHECK(Count({0, 0, 0, 0}, &whole) == 0 && !whole);                       // would never advance
}

TEST(AFamilyIsFoundWithTheGroupOfThatNameOnly) {
  // CTRL_ATTR_FAMILY_ID 1: 0x1234. CTRL_ATTR_MCAST_GROUPS 7: one group, CTRL_ATTR_MCAST_GRP_ID 2: 5, _NAME 1: "ab"
  const NetlinkBytes attributes = {6,  0, 1, 0, 0x34, 0x12, 0, 0,  //
                                   24, 0, 7, 0,                    //
                                   20, 0, 1, 0,                    //
                                   8,  0, 2, 0, 5,    0,    0, 0,  //
                                   7,  0, 1, 0, 'a',  'b',  0, 0};
  CHECK(ParseFamily(attributes, "ab").id == 0x1234);
  CHECK(ParseFamily(attributes, "ab").group == 5);
  CHECK(ParseFamily(attributes, "a").group == 0);
  for (size_t length = 0; length < attributes.size(); ++length) {
    const NetlinkBytes cut(attributes.begin(), attributes.begin() + static_cast<ptrdiff_t>(length));
    CHECK(ParseFamily(cut, "ab").id == (length >= 6 ? 0x1234 : 0));
  }
}

TEST(TheKernelAnswersAndRefuses) {
  std::unique_ptr<GenericNetlink> link;
  CHECK(GenericNetlink::Open("keepgate-none", "none", &link) == -ENOENT);
  CHECK(GenericNetlink::Open("nlctrl", "none", &link) == -ENOENT);
  CHECK(GenericNetlink::Open(std::string(40, 'x'), "none", &link) == -ENAMETOOLONG);
  CHECK(link == nullptr);
  CHECK(GenericNetlink::Open("nlctrl", "notify", &link) == 0);
  NetlinkBytes reply;
  // CTRL_ATTR_FAMILY_ID 1: the controller's own.
  CHECK(link->Request(CTRL_CMD_GETFAMILY, 1, {6, 0, 1, 0, GENL_ID_CTRL, 0, 0, 0}, &reply) == 0);
  CHECK(ParseFamily(reply, "notify").id == GENL_ID_CTRL);
  CHECK(link->Request(CTRL_CMD_GETFAMILY, 1, {6, 0, 1, 0, 1, 0, 0, 0}, &reply) == -ENOENT);
  CHECK(link->Request(200, 1, {}, &reply) == -EOPNOTSUPP);
}

TEST(AWaitForAMessageEndsWhenItIsCancelled) {
  std::unique_ptr<GenericNetlink> link;
  CHECK(GenericNetlink::Open("nlctrl", "notify", &link) == 0);
  int64_t ended = 0;
  std::thread waiter([&] {
    NetlinkBytes attributes;
    while ((ended = link->Next(&attributes)) >= 0) continue;
  });
  link->Cancel();
  waiter.join();
  CHECK(ended == -ECANCELED);
  NetlinkBytes attributes;
  CHECK(link->Next(&attributes) == -ECANCELED);
}

}  // namespace
}  // namespace keepgate
