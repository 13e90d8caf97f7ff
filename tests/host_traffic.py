"""Finds traffic between host and device without a device, under the name that tests know."""

from featureviz.traffic import host_traffic

HostTraffic = host_traffic
