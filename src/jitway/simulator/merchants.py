"""Where the simulated cards are used: category codes as networks define them, invented shops.

Owns how much people spend where. Amounts are log-normal by category, in minor units.
"""

import math
import random
from dataclasses import dataclass, field

import msgspec

AMOUNT_MAX_MINOR = 500_000


@dataclass(frozen=True, slots=True)
class Category:
    """A merchant category: its code, a typical amount (the median) and how far amounts spread."""

    mcc: str
    median_minor: int
    spread: float


GROCERIES = Category("5411", 32_00, 0.8)
CONVENIENCE = Category("5499", 9_50, 0.7)
BAKERIES = Category("5462", 7_20, 0.5)
RESTAURANTS = Category("5812", 38_00, 0.7)
FAST_FOOD = Category("5814", 11_50, 0.5)
SERVICE_STATIONS = Category("5541", 41_00, 0.4)
FUEL_DISPENSERS = Category("5542", 45_00, 0.4)
DRUG_STORES = Category("5912", 18_00, 0.7)
BOOKS = Category("5942", 22_00, 0.6)
DEPARTMENT_STORES = Category("5311", 54_00, 0.8)
CLOTHING = Category("5651", 62_00, 0.7)
ELECTRONICS = Category("5732", 140_00, 0.9)
HARDWARE = Category("5251", 35_00, 0.9)
FURNITURE = Category("5712", 210_00, 0.8)
COMMUTER_TRANSPORT = Category("4111", 3_20, 0.4)
TAXIS = Category("4121", 16_00, 0.6)
PARKING = Category("7523", 6_00, 0.7)
AIRLINES = Category("4511", 310_00, 0.7)
LODGING = Category("7011", 180_00, 0.6)
DIGITAL_MEDIA = Category("5815", 9_99, 0.3)
DIGITAL_GAMES = Category("5816", 14_99, 0.8)
STREAMING = Category("4899", 15_99, 0.2)
TELECOM = Category("4814", 35_00, 0.4)
UTILITIES = Category("4900", 95_00, 0.5)
CINEMAS = Category("7832", 24_00, 0.4)
DOCTORS = Category("8011", 85_00, 0.7)
BARBERS = Category("7230", 34_00, 0.4)
PET_SHOPS = Category("5995", 29_00, 0.6)
LIQUOR = Category("5921", 26_00, 0.6)
COSMETICS = Category("5977", 27_00, 0.6)
BETTING = Category("7995", 30_00, 1.0)


@dataclass(frozen=True, slots=True)
class Merchant:
    """One shop, how often it is chosen, and its JSON object, ready to be sent."""

    name: str
    country: str
    category: Category
    weight: float
    json: str = field(init=False)

    def __post_init__(self) -> None:
        """Write the JSON once."""
        reference = f"m-{self.category.mcc}-{self.name.lower().replace(' ', '-')}"
        told = {
            "id": reference,
            "name": self.name,
            "mcc": self.category.mcc,
            "country": self.country,
        }
        object.__setattr__(self, "json", msgspec.json.encode(told).decode())

    def draw_amount_minor(self, draw: random.Random) -> int:
        """What one customer pays, in minor units; at least 1."""
        typical = math.log(self.category.median_minor)
        amount = draw.lognormvariate(typical, self.category.spread)
        return min(max(round(amount), 1), AMOUNT_MAX_MINOR)


MERCHANTS = (
    Merchant("Greenleaf Market", "US", GROCERIES, 9),
    Merchant("Harbor Foods", "US", GROCERIES, 8),
    Merchant("Lindenhof Lebensmittel", "DE", GROCERIES, 2),
    Merchant("Corner Stop", "US", CONVENIENCE, 6),
    Merchant("Quick Basket", "US", CONVENIENCE, 4),
    Merchant("Boulangerie Martin", "FR", BAKERIES, 2),
    Merchant("Crumb and Co", "US", BAKERIES, 3),
    Merchant("Trattoria Vesuvio", "US", RESTAURANTS, 4),
    Merchant("Blue Door Bistro", "US", RESTAURANTS, 4),
    Merchant("Sakura Kitchen", "JP", RESTAURANTS, 1),
    Merchant("Burger Yard", "US", FAST_FOOD, 7),
    Merchant("Taco Corner", "US", FAST_FOOD, 6),
    Merchant("Bean Street Coffee", "US", FAST_FOOD, 8),
    Merchant("Prairie Gas", "US", SERVICE_STATIONS, 3),
    Merchant("Route 9 Fuel", "US", FUEL_DISPENSERS, 4),
    Merchant("Wellspring Pharmacy", "US", DRUG_STORES, 4),
    Merchant("Corner Books", "US", BOOKS, 2),
    Merchant("Northgate Department Store", "US", DEPARTMENT_STORES, 3),
    Merchant("Thread and Needle", "US", CLOTHING, 3),
    Merchant("Camden Outfitters", "GB", CLOTHING, 1),
    Merchant("Volt Electronics", "US", ELECTRONICS, 2),
    Merchant("Old Mill Hardware", "US", HARDWARE, 2),
    Merchant("Oak and Pine Furniture", "US", FURNITURE, 0.7),
    Merchant("Metro Transit", "US", COMMUTER_TRANSPORT, 9),
    Merchant("City Cab", "US", TAXIS, 3),
    Merchant("Plaza Parking", "US", PARKING, 3),
    Merchant("Skyline Airways", "US", AIRLINES, 0.8),
    Merchant("Nordwind Airlines", "DE", AIRLINES, 0.3),
    Merchant("Lakeside Inn", "US", LODGING, 0.8),
    Merchant("Hotel Miramar", "ES", LODGING, 0.4),
    Merchant("Tune Vault", "US", DIGITAL_MEDIA, 5),
    Merchant("Pixel Forge Games", "US", DIGITAL_GAMES, 3),
    Merchant("Streamline TV", "US", STREAMING, 4),
    Merchant("Bell River Mobile", "US", TELECOM, 2),
    Merchant("Tri County Power", "US", UTILITIES, 1),
    Merchant("Orpheum Cinema", "US", CINEMAS, 2),
    Merchant("Elm Street Clinic", "US", DOCTORS, 1),
    Merchant("Sharp Cuts", "US", BARBERS, 1),
    Merchant("Happy Paws", "US", PET_SHOPS, 1),
    Merchant("Cellar Nine", "US", LIQUOR, 1),
    Merchant("Rosewater Beauty", "CA", COSMETICS, 1),
)
"""Shops that no demo card is kept away from."""

BOOKMAKER = Merchant("Lucky Seven Bets", "US", BETTING, 0)
"""Where only the cards go that are not allowed to."""
